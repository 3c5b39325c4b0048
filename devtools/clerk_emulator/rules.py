"""Rules that say when a fault happens: on a share of the occasions, on the next n, after so many were let pass.

Choices come from one stream seeded with the emulator's seed, so that a run can be repeated.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, Generic, TypeVar


@dataclass(frozen=True, kw_only=True)
class Rule:
    """When something happens."""

    rate: float = 1.0
    """Share of the occasions on which the rule applies."""
    next: int | None = None
    """After so many applications the rule is gone; None means it stays."""
    skip: int = 0
    """So many occasions pass before the rule begins."""
    id: str = field(default="", compare=False)

    def check_rule(self) -> None:
        """Raise ValueError for a rule that cannot work."""
        if not 0 <= self.rate <= 1 or (self.next is not None and self.next < 1) or self.skip < 0:
            raise ValueError("rate is between 0 and 1, next at least 1, skip at least 0")

    def as_json(self) -> dict[str, Any]:
        """Return what the control API shows."""
        return dict(vars(self))


F = TypeVar("F", bound=Rule)


class Rules(Generic[F]):
    """The rules in force."""

    def __init__(self, *, seed: int, prefix: str) -> None:
        """Begin without any; ids begin with ``prefix``."""
        self.random = random.Random(seed)
        self._prefix = prefix
        self._rules: dict[str, F] = {}
        self._numbers = count(1)

    def add(self, rule: F) -> F:
        """Put a rule in force and return it with its id."""
        named = replace(rule, id=f"{self._prefix}{next(self._numbers)}")
        self._rules[named.id] = named
        return named

    def remove(self, identifier: str) -> bool:
        """Lift a rule; tell whether there was one."""
        return self._rules.pop(identifier, None) is not None

    def clear(self) -> None:
        """Lift all rules."""
        self._rules.clear()

    def __len__(self) -> int:
        """Return how many rules are in force."""
        return len(self._rules)

    def __iter__(self) -> Iterator[F]:
        """Yield the rules, the oldest first."""
        return iter(list(self._rules.values()))

    def first(self, concerns: Callable[[F], bool]) -> F | None:
        """Return the first rule that this occasion concerns and that applies, and count it."""
        for rule in list(self._rules.values()):
            if not concerns(rule):
                continue
            if rule.skip:
                self._rules[rule.id] = replace(rule, skip=rule.skip - 1)
                continue
            if rule.rate < 1 and self.random.random() >= rule.rate:
                continue
            self._count(rule)
            return rule
        return None

    def _count(self, rule: F) -> None:
        if rule.next is None:
            return
        if rule.next == 1:
            del self._rules[rule.id]
        else:
            self._rules[rule.id] = replace(rule, next=rule.next - 1)
