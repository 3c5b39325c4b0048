"""What a run measured, printed as one table at its end: how long an install takes, and what a load met."""

from dataclasses import dataclass, field

from tests.e2e.load import Load

LOAD = ("under load", "events", "sent", "204", "503", "no answer", "sent again", "rows")


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]


@dataclass
class Figures:
    """Filled by tests, in their order."""

    _times: list[tuple[str, ...]] = field(default_factory=list)
    _loads: list[tuple[str, ...]] = field(default_factory=list)

    def took(self, what: str, seconds: float) -> None:
        """Something lasted so long."""
        self._times.append((what, f"{seconds:.1f} s"))

    def met(self, what: str, load: Load, *, rows: int) -> None:
        """A load is over, and so many of its events are stored."""
        answers = load.answers
        numbers = (load.events, load.sent, answers["204"], answers["503"], load.failures, load.sent - load.events, rows)
        self._loads.append((what, *(f"{number:,}" for number in numbers)))

    def lines(self) -> list[str]:
        """The table."""
        times = _aligned(self._times) if self._times else []
        loads = _aligned([LOAD, *self._loads]) if self._loads else []
        return [*times, "", *loads] if times and loads else [*times, *loads]
