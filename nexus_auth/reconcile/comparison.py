"""What differs between a span of Clerk's listing and what we hold of it: a pure function, without database or clock."""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field

from nexus_auth.reconcile.answers import Item
from nexus_auth.store.comparison import State


@dataclass(frozen=True, slots=True)
class Held:
    """What the database holds of a span, and what else must be known to judge it."""

    rows: Mapping[str, int]
    """Typed rows with `created_at` in the span: `updated_at`, ms, by id."""
    states: Mapping[str, State] = field(default_factory=dict)
    """Arbiter rows, of every id that `doubtful` names or that is unadopted."""
    unadopted: Set[str] = frozenset()
    """Typed rows, of the listed ids, that no live arbiter row stands for."""
    differing: Set[str] = frozenset()
    """Ids whose projection differs, whatever their `updated_at` says; only a deep run asks."""
    no_extras: Set[str] = frozenset()
    """Ids that need not be listed: too young, on their way out, or listed in a shape that nobody can use."""
    edited: Set[str] = frozenset()
    """Ids that were found edited by hand and left so: what else is wrong with them follows from that."""


@dataclass(frozen=True, slots=True)
class Differences:
    """What differs, by problem."""

    missing: list[Item] = field(default_factory=list)
    stale: list[Item] = field(default_factory=list)
    deep: list[Item] = field(default_factory=list)
    unadopted: list[Item] = field(default_factory=list)
    resurfaced: list[Item] = field(default_factory=list)
    """Listed, and a tombstone here, with a typed row or without."""
    ahead: list[Item] = field(default_factory=list)
    """Ours is newer than what was listed, and was observed before the listing began: Clerk itself says less now."""
    extra: list[str] = field(default_factory=list)
    """Held and not listed."""

    @property
    def wrong(self) -> list[tuple[Item, str]]:
        """What is put right by applying the listed object, with the problem."""
        return [
            (item, problem)
            for problem, items in (
                ("missing", self.missing),
                ("stale", self.stale),
                ("deep", self.deep),
                ("unadopted", self.unadopted),
            )
            for item in items
        ]

    @property
    def doubts(self) -> list[tuple[Item, str]]:
        """What only reads by name may settle, with the problem."""
        return [(item, "resurfaced") for item in self.resurfaced] + [(item, "ahead") for item in self.ahead]

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return bool(self.wrong or self.doubts or self.extra)

    def numbers(self) -> dict[str, int]:
        """How many of each problem."""
        numbers = {
            "missing": len(self.missing),
            "stale": len(self.stale),
            "deep": len(self.deep),
            "unadopted": len(self.unadopted),
            "resurfaced": len(self.resurfaced),
            "ahead": len(self.ahead),
            "extra": len(self.extra),
        }
        return {problem: number for problem, number in numbers.items() if number}


def doubtful(items: Iterable[Item], rows: Mapping[str, int]) -> list[str]:
    """The listed ids whose arbiter row must be looked at: those without a row in the span, or with a newer one."""
    return [item.id for item in items if item.id not in rows or rows[item.id] > item.updated_at]


def equal(items: Iterable[Item], rows: Mapping[str, int]) -> list[Item]:
    """The listed objects whose row has the same `updated_at`: only their content may differ."""
    return [item for item in items if rows.get(item.id) == item.updated_at]


def differences(items: Sequence[Item], held: Held) -> Differences:
    """Sets a span beside what is held of it; each object has one problem at most."""
    found = Differences()
    for item in items:
        if item.id in held.edited:
            continue
        have = held.rows.get(item.id)
        state = held.states.get(item.id)
        if state is not None and state.dead:
            found.resurfaced.append(item)
        elif item.id in held.unadopted:
            found.unadopted.append(item)
        elif have is None and not _ahead(item, state):
            found.missing.append(item)
        elif have is not None and have < item.updated_at:
            found.stale.append(item)
        elif have is None or have > item.updated_at:
            if _ahead(item, state):
                found.ahead.append(item)
        elif item.id in held.differing:
            found.deep.append(item)
    listed = {item.id for item in items}
    found.extra.extend(sorted(set(held.rows) - listed - held.edited - held.no_extras))
    return found


def _ahead(item: Item, state: State | None) -> bool:
    return state is not None and state.updated_at > item.updated_at and state.observed_at < item.asked_at
