"""Taking one page out of a table or a list of records.

Order of creation is what tables hold; any other order is computed. Filters, cursors and what a server may do wrong
with a page are added here, and nowhere else.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from devtools.clerk_emulator.api.parameters import Page
from devtools.clerk_emulator.state.table import Record, Table

R = TypeVar("R", bound=Record)
SortKey = Callable[[R], Any]


def of_table(table: Table[R], page: Page, keys: Mapping[str, SortKey[R]]) -> list[R]:
    """Return one page of all objects of a kind."""
    if page.order_by == "created_at":
        return table.page(offset=page.offset, limit=page.limit, newest_first=page.descending)
    return of_records(list(table), page, keys)


def of_records(records: list[R], page: Page, keys: Mapping[str, SortKey[R]]) -> list[R]:
    """Return one page of these records; what has no value in the ordering member comes first."""
    key = keys[page.order_by]

    def sort_key(record: R) -> tuple[Any, ...]:
        value = key(record)
        return (value is not None, value if value is not None else 0, record.created_at, record.id)

    ordered = sorted(records, key=sort_key, reverse=page.descending)
    return ordered[page.offset : page.offset + page.limit]
