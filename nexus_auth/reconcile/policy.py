"""What a sync may do."""

from dataclasses import dataclass, field

from nexus_auth.store.runs import Policy


@dataclass(frozen=True)
class Guard:
    """How many deletions by sweeps 24 hours may bring, per kind: the greater of the two."""

    floor: int = 10
    percent: float = 1.0

    def allows(self, *, deleted: int, more: int, live: int) -> bool:
        """Whether `more` deletions may be made after `deleted` in the last 24 h, of `live` rows."""
        return deleted + more <= max(self.floor, int(live * self.percent / 100))


@dataclass(frozen=True)
class SyncPolicy:
    """One sync's policy; times in seconds."""

    name: str
    drift: Policy = "Report"
    kinds: tuple[str, ...] = ("user", "organization", "organization_membership")
    guard: Guard = field(default_factory=Guard)
    walkers: int = 8
    """Windows of users that are walked at once."""
    settle: float = 5.0
    """The last window closes so long before the sweep began: younger objects may not be listed yet."""
    overlap: float = 600.0
    """An incremental sweep looks this far behind its watermark."""
    verify_after: float = 60.0
    """A reviving or lowering read waits so long after what it doubts; its second read as long again.
    A difference of counts stands when two checks saw it that far apart."""
