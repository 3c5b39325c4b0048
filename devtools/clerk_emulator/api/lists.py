"""Taking one page out of some slots of a table, in any order.

Order of creation is what tables hold; an order by anything else is computed by looking at every record.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from devtools.clerk_emulator.api.parameters import Page
from devtools.clerk_emulator.state.table import Record, Table

R = TypeVar("R", bound=Record)
SortKey = Callable[[R], Any]


def in_order(table: Table[R], slots: Iterable[int], page: Page, key: SortKey[R]) -> list[int]:
    """Return one page of these slots; what has no value in the ordering member comes first, ties by creation."""

    def sort_key(slot: int) -> tuple[Any, ...]:
        record = table.at(slot)
        value = key(record)
        return (value is not None, value if value is not None else 0, record.created_at, slot)

    ordered = sorted(slots, key=sort_key, reverse=page.descending)
    return ordered[page.offset : page.offset + page.limit]
