"""What a part says, made readable: an event as one line, a warning or an error with the part's name before it."""

import json
import re
from collections.abc import Mapping
from typing import Any

from devtools.run.output import Piece, clean
from devtools.run.parts import PartFailed

LEVEL_STYLES = {"warning": "yellow", "error": "red", "critical": "bold red"}
OUTCOME_STYLES = {"created": "green", "updated": "green", "deleted": "green", "parked": "red"}
NOT_TOLD = frozenset({"time", "level", "logger", "message", "traceback"})

POSTGRES_LINE = re.compile(
    r"^\S+ \S+ \S+ \[\d+\] (?P<who>\S*@\S* )?(?P<level>WARNING|ERROR|FATAL|PANIC):  (?P<text>.*)"
)
"""After `log_line_prefix` of the embedded server."""


def read_json(line: str) -> Mapping[str, Any] | None:
    """A log line of a service of ours, or None for any other text."""
    try:
        said = json.loads(line)
    except ValueError:
        return None
    return said if isinstance(said, dict) and isinstance(said.get("message"), str) else None


def event_pieces(said: Mapping[str, Any]) -> tuple[Piece, ...]:
    """Time (UTC, as on the emulator's page), type, outcome, id, and milliseconds from Clerk's change to our commit."""
    outcome, lag = str(said.get("outcome")), said.get("lag_ms")
    why = f"  {clean(str(said['why']))}" if said.get("why") else ""
    return (
        (str(said.get("time"))[11:23], "dim"),
        (f"  {clean(str(said.get('event')), width=60):<31}", "bold"),
        (f" {outcome:<9}", OUTCOME_STYLES.get(outcome, "")),
        (f" {clean(str(said.get('id') or '-'), width=120):<33}", ""),
        (f" {lag} ms" if lag is not None else " - ms", "dim"),
        (why, "red"),
    )


def sentence(said: Mapping[str, Any]) -> str:
    """A log line as text: its message, then what belongs to it."""
    more = " ".join(f"{name}={value}" for name, value in said.items() if name not in NOT_TOLD)
    return f"{said['message']} ({more})" if more else str(said["message"])


def part_lines(name: str, text: str, *, level: str = "warning") -> list[tuple[Piece, ...]]:
    """Warning or error of a part; each line of it is named."""
    style = LEVEL_STYLES.get(level, "")
    return [((f"{name}: ", "bold"), (clean(line), style)) for line in text.splitlines()]


def failure_lines(failure: PartFailed, *, then: str) -> list[tuple[Piece, ...]]:
    """Which part failed, how, and what it said before."""
    last = "; its last lines:" if failure.last_lines else ""
    head = ((f"{failure.name}: ", "bold"), (f"{clean(failure.what)}; {then}{last}", "bold red"))
    return [head, *((("    " + clean(line), "dim"),) for line in failure.last_lines)]


def postgres_complaint(line: str) -> tuple[str, str] | None:
    """Level and text, where a line of Postgres's log is a warning or worse."""
    found = POSTGRES_LINE.match(line)
    if found is None:
        return None
    level = found["level"]
    who = f"{found['who'].strip()} " if found["who"] else ""
    return ("warning" if level == "WARNING" else "error", f"{who}{level}: {found['text']}")
