"""What every step of a run is given."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nexus_auth.clerk.catalogue import BY_KIND, Entity
from nexus_auth.failpoints import Failpoint, nowhere
from nexus_auth.reconcile.policy import SyncPolicy
from nexus_auth.reconcile.requester import Requester
from nexus_auth.store.runs import Run

if TYPE_CHECKING:
    import asyncpg


@dataclass(frozen=True)
class Context:
    """One run of one kind; everything is the engine's to open and close."""

    pool: "asyncpg.Pool[asyncpg.Record]"
    requester: Requester
    run: Run
    policy: SyncPolicy
    failpoint: Failpoint = nowhere
    dry: bool = False
    """Nothing is written at all."""

    @property
    def kind(self) -> str:
        """The run's kind."""
        return self.run.kind

    @property
    def entity(self) -> Entity:
        """The declaration of the run's kind."""
        return BY_KIND[self.run.kind]

    @property
    def fixes(self) -> bool:
        """Whether differences are repaired."""
        return self.policy.drift == "Fix" and not self.dry
