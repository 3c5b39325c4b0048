"""The list: what is broken, where, and which test says so."""

from dataclasses import dataclass

APPLY = "sql/migrations/20261125000004_apply.sql"
INGEST = "sql/migrations/20261125000005_ingest.sql"


@dataclass(frozen=True)
class Fault:
    """One edit: `before` stands exactly once in `file`, and every test fails when it is `after`."""

    name: str
    promise: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]


FAULTS: tuple[Fault, ...] = ()
