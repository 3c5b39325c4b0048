"""What a run is made of, decided from the environment before anything starts.

A real Clerk needs both keys: with one of them, events of one Clerk would be checked against the key of another. What is
not chosen here is taken out of the parts' environment.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from devtools.loopback import is_loopback
from nexus_auth.clerk.signature import NoSecret, secrets_from

SECRET_KEY = "CLERK_SECRET_KEY"
SIGNING_SECRET = "CLERK_WEBHOOK_SIGNING_SECRET"
ALLOW_LIVE = "NEXUS_AUTH_ALLOW_LIVE"
APPLY = "NEXUS_AUTH_APPLY"
TEST_KEY = "sk_test_"
FROM_RUN_FILE = (SECRET_KEY, "CLERK_API_URL", "CLERK_INSTANCE_ID")
"""Variables of a real Clerk that `.run/env` holds for the emulator, too."""

SEED = 1
EMULATED_INSTANCE_ID = f"ins_{hashlib.sha256(f'make run, seed {SEED}'.encode()).hexdigest()[:27]}"
"""Of the emulator, the same in every run and checkout: the database of yesterday belongs to it."""


class Unusable(Exception):
    """The environment asks for something impossible or forbidden; one sentence, exit code 2."""


@dataclass(frozen=True)
class RealClerk:
    """A Clerk instance out there, in the place of the emulator."""

    secret_key: str = field(repr=False)
    signing_secrets: str = field(repr=False)
    """As given: one, or several separated by white space."""
    api_url: str
    """Root without /v1."""
    instance_id: str | None
    """What the caller believes the key to belong to."""

    @property
    def is_live(self) -> bool:
        """Whether real users stand behind the key; one that does not say it is a test key counts as live."""
        return not self.secret_key.startswith(TEST_KEY)


@dataclass(frozen=True)
class Choice:
    """Which Clerk, and which Postgres."""

    clerk: RealClerk | None
    """None: the emulator."""
    database_url: str | None = field(repr=False)
    """None: the embedded server."""
    applies: bool = False
    """Whether the reconciler may repair beside a real Clerk."""

    @property
    def begins_anew(self) -> bool:
        """Whether emulator and database are both ours, so that both may begin without what earlier runs left."""
        return self.clerk is None and self.database_url is None

    @property
    def repairs(self) -> bool:
        """Whether the reconciler repairs what it finds, or only reports it."""
        return self.clerk is None or self.applies


def choose(environment: Mapping[str, str]) -> Choice:
    """Reads the choice from the environment; an empty variable counts as absent. Raises `Unusable`.

    What a shell took from the `.run/env` of an earlier run is recognised: it chooses what that run had chosen.
    """
    clerk = _clerk(_without_run_file({name: value.strip() for name, value in environment.items()}))
    return Choice(
        clerk=clerk,
        database_url=_database_url(environment.get("DATABASE_URL", ""), real=clerk is not None),
        applies=environment.get(APPLY, "").strip() == "1",
    )


def _without_run_file(environment: Mapping[str, str]) -> Mapping[str, str]:
    """The environment without the emulator's variables, and with a real Clerk's as they were given to that run."""
    if environment.get("CLERK_INSTANCE_ID") == EMULATED_INSTANCE_ID:
        return {name: value for name, value in environment.items() if name not in FROM_RUN_FILE}
    secrets = environment.get(SIGNING_SECRET) or environment.get("WEBHOOK_SECRETS", "")
    return {**environment, SIGNING_SECRET: secrets} if environment.get(SECRET_KEY) else environment


def _clerk(environment: Mapping[str, str]) -> RealClerk | None:
    key, signing = environment.get(SECRET_KEY, ""), environment.get(SIGNING_SECRET, "")
    if not key and not signing:
        return None
    if not key or not signing:
        given, absent = (SECRET_KEY, SIGNING_SECRET) if key else (SIGNING_SECRET, SECRET_KEY)
        raise Unusable(f"{given} is set and {absent} is not: set both for a real Clerk, or neither for the emulator")
    try:
        secrets_from(signing)
    except NoSecret as error:
        raise Unusable(f"{SIGNING_SECRET}: {error}") from None
    clerk = RealClerk(
        secret_key=key,
        signing_secrets=signing,
        api_url=environment.get("CLERK_API_URL", "") or "https://api.clerk.com",
        instance_id=environment.get("CLERK_INSTANCE_ID", "") or None,
    )
    if not re.fullmatch(r"https?://[^\s/@?#]+(/[^\s@?#]*)?", clerk.api_url):
        raise Unusable("CLERK_API_URL is no http(s) address")
    if clerk.is_live and environment.get(ALLOW_LIVE) != "1":
        raise Unusable(f"{SECRET_KEY} is a live key, for real users: set {ALLOW_LIVE}=1 if you mean it")
    return clerk


def _database_url(url: str, *, real: bool) -> str | None:
    if not url:
        return None
    try:
        parts = urlsplit(url)
        complete = bool(parts.scheme in ("postgres", "postgresql") and parts.username and parts.password)
    except ValueError:
        complete = False
    if not complete or not parts.path.strip("/"):
        raise Unusable("DATABASE_URL must be postgresql://user:password@host:port/database")
    if not real and not is_loopback(url):
        raise Unusable(
            "DATABASE_URL is not on this machine: the emulator's invented users are never written to another one"
        )
    return url
