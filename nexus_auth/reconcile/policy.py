"""What a sync may do."""

from dataclasses import dataclass, field

from nexus_auth.clerk.catalogue import PROJECTED
from nexus_auth.store.runs import Policy


@dataclass(frozen=True)
class Guard:
    """How many deletions by sweeps 24 hours may bring, per kind: the greater of the two.

    The database weighs them, and never allows more than a quarter of a kind: `clerk_private.weigh_deletions`.
    """

    floor: int = 10
    percent: float = 1.0


@dataclass(frozen=True)
class SyncPolicy:
    """One sync's policy; times in seconds."""

    name: str
    drift: Policy = "Report"
    kinds: tuple[str, ...] = tuple(entity.kind for entity in PROJECTED)
    """What one sweep is about, parents first."""
    scope: tuple[str, ...] = ()
    """All kinds that the sync keeps, where one sweep is about fewer."""
    guard: Guard = field(default_factory=Guard)
    walkers: int = 8
    """Windows of users that are walked at once."""
    settle: float = 5.0
    """The last window closes so long before the sweep began: younger objects may not be listed yet."""
    overlap: float = 600.0
    """An incremental sweep looks this far behind its watermark."""
    verify_after: float = 60.0
    """So far apart are two reads by name that bury, revive or lower; the first of a tombstone comes so long after it.
    A difference of counts stands when two checks saw it that far apart."""

    @property
    def everything(self) -> tuple[str, ...]:
        """All kinds that the sync keeps."""
        return self.scope or self.kinds
