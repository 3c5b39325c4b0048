"""Takes the real world out of the environment: tests, demo and bench talk to this machine only.

Who develops nexus-auth may have his production keys exported. A test that picked one of them up would write to a real
database, or spend a real Clerk instance's request budget.
"""

from collections.abc import MutableMapping
from urllib.parse import parse_qs, urlsplit

PREFIXES = ("CLERK_", "NEXUS_AUTH_", "SVIX_", "RESEND_", "WEBHOOK_", "PG")
SUFFIXES = ("DATABASE_URL", "_PROXY")
NAMES = ("EMULATOR_URL", "METRICS_URLS")
KEPT = ("NEXUS_AUTH_TEST_", "CLERK_OPENAPI_DIR")
"""What the tests themselves are steered with; the folder of Clerk's specification is nobody's key."""

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def drop_real_world(environment: MutableMapping[str, str]) -> None:
    """Removes every variable that names a real database, key or proxy, in place."""
    for name in list(environment):
        upper = name.upper()
        if upper.startswith(KEPT):
            continue
        if upper.startswith(PREFIXES) or upper.endswith(SUFFIXES) or upper in NAMES:
            del environment[name]


def is_loopback(database_url: str) -> bool:
    """Whether a database URL names a server on this machine (by address, or by a socket folder)."""
    parts = urlsplit(database_url)
    hosts = parse_qs(parts.query).get("host") or [parts.hostname or ""]
    return all(host in LOOPBACK or host.startswith("/") for host in hosts)
