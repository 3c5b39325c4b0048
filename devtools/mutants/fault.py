"""What a planted fault is, and which of them a word selects."""

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One edit: `before` stands exactly once in `file`, and every test fails when it is `after`.

    `row` is the case that it stands for (`D3`, `R16`), empty for one that stands for a promise alone.
    """

    name: str
    promise: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]
    row: str = ""

    @property
    def needs_kubernetes(self) -> bool:
        """Whether one of its tests starts an API server."""
        return any(test.startswith("tests/kubernetes/") for test in self.tests)

    def is_meant_by(self, word: str) -> bool:
        """Whether a word selects it: its name, its row (`D3`), or the row's letter (`D`)."""
        return word == self.name or (bool(self.row) and word in (self.row, re.sub(r"\d+$", "", self.row)))


def chosen(faults: Sequence[Fault], words: Sequence[str]) -> list[Fault]:
    """The faults that any of the words selects, all of them without a word. ValueError names words that select none.

    Those that need an API server come first: they take longest, and what is short fills the gaps at the end.
    """
    unknown = [word for word in words if not any(fault.is_meant_by(word) for fault in faults)]
    if unknown:
        raise ValueError(f"no fault has this name or row: {', '.join(unknown)}")
    found = [fault for fault in faults if not words or any(fault.is_meant_by(word) for word in words)]
    return sorted(found, key=lambda fault: not fault.needs_kubernetes)
