"""What a planted fault is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One edit: `before` stands exactly once in `file`, and every test fails when it is `after`."""

    name: str
    promise: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]
