"""Views of others on the mirror that show every row to whoever may read them.

A view reads with its owner's rights unless it says `security_invoker`; made by the tables' owner, or by a superuser, it
passes by every policy (chapter CREATE VIEW of PostgreSQL's documentation).
"""

from dataclasses import dataclass
from importlib.resources import files
from typing import Any

UNSAFE_VIEWS = files("nexus_auth.store").joinpath("views.sql").read_text("utf-8")


@dataclass(frozen=True, slots=True)
class UnsafeView:
    """A view that shows more than the policies of its reader would."""

    name: str
    """With its schema, quoted where SQL needs it."""
    owner: str
    materialized: bool
    why: str
    """What its owner is or has."""

    def __str__(self) -> str:
        """What is wrong, and what to do."""
        said = f"view {self.name} shows every row to whoever may read it: its owner {self.owner} {self.why}"
        if self.materialized:
            return f"{said}, and a materialized view keeps what the owner sees; make it a view, or revoke it"
        return f"{said}; alter view {self.name} set (security_invoker = true)"


async def unsafe_views(connection: Any) -> list[UnsafeView]:
    """The unsafe views of the database, by name. Any role may ask."""
    rows = await connection.fetch(UNSAFE_VIEWS)
    return [UnsafeView(**dict(row)) for row in rows]
