"""What an emulator is started with: seed, sizes, keys. Fixed for a run, unlike its :class:`Behaviour`."""

import base64
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from devtools.clerk_emulator.behaviour import Behaviour

#: Seconds from each failure to the next attempt; with the first one that makes eight attempts over about 27 h.
SVIX_SCHEDULE: tuple[float, ...] = (5, 300, 1_800, 7_200, 18_000, 36_000, 36_000)


def derived_token(prefix: str, *, seed: int, length: int = 42) -> str:
    """Return a key that depends on the seed only: a stand-in for what Clerk's dashboard would show."""
    digest = hashlib.blake2b(f"{seed}/{prefix}".encode(), digest_size=48).digest()
    return prefix + base64.b64encode(digest, altchars=b"xy").decode()[:length]


@dataclass(frozen=True)
class Settings:
    """What an emulator is started with."""

    seed: int = 1
    """Decides every seeded object, id and random choice of a run."""
    users: int = 5_000
    users_of_one_moment: int = 0
    """How many of the seeded users share one time of creation."""
    organizations: int = 200
    memberships: int = 12_000
    host: str = "127.0.0.1"
    port: int = 0
    """0 takes a free port."""
    secret_key: str = field(default="", repr=False)
    """The API key that is accepted; derived from the seed where empty."""
    instance_id: str = ""
    """``ins_…``; derived from the seed where empty."""
    environment_type: Literal["development", "production"] = "development"
    message_log: int = 10_000
    """Finished messages that are remembered."""
    request_log: int = 100_000
    """API requests that are remembered."""
    rendered_bytes: int = 256 << 20
    """How much of the users' JSON is kept once it was rendered: 256 MiB are about 100,000 users. Memberships may take a
    quarter of it besides."""
    state_file: Path | None = None
    """What changed since the seed is kept here, and taken up again by the next emulator; None keeps nothing."""
    behaviour: Behaviour = field(default_factory=Behaviour)

    def __post_init__(self) -> None:
        """Fill in what the seed decides; raise ValueError for sizes that cannot be."""
        if min(self.users, self.organizations, self.memberships, self.users_of_one_moment) < 0:
            raise ValueError("sizes are not negative")
        if self.memberships > self.users * self.organizations:
            raise ValueError("more memberships than pairs of users and organizations")
        if self.users_of_one_moment > self.users:
            raise ValueError("more users of one moment than users")
        if not self.secret_key:
            object.__setattr__(self, "secret_key", derived_token("sk_test_", seed=self.seed))
        if not self.instance_id:
            object.__setattr__(self, "instance_id", derived_token("ins_", seed=self.seed, length=27))
