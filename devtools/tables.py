"""Writes docs/reference/tables.md, the columns that applications read, from a migrated database's own catalog.

    python -m devtools.tables DATABASE_URL

What a column means is a comment on it, in the migration that makes it.
"""

import sys
from itertools import groupby
from pathlib import Path

from devtools.postgres import fetch

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "tables.md"
QUERY = Path(__file__).with_suffix(".sql").read_text("utf-8")

HEAD = """# Tables

What applications read: schema `clerk`. Written by `python -m devtools.tables DATABASE_URL` from the database's
comments, which psql shows too (`\\d+ clerk.users`).

Row-level security decides which rows a signed-in user sees: [README](../../README.md#what-you-get-in-postgres). Do
not write to these tables: a difference is found and put back. Add what you need in tables and views of your own; a
view needs `with (security_invoker = true)`, or it shows every row to whoever may read it.
"""


def page(database_url: str) -> str:
    """The page for a migrated database. Raises what asyncpg raises."""
    parts = [HEAD]
    for table, columns in groupby(
        fetch(database_url, QUERY), key=lambda row: (row["table_name"], row["table_comment"])
    ):
        name, comment = table
        parts.append(f"## clerk.{name}\n\n{comment or ''}\n")
        rows = ["| column | type | null | |", "|---|---|---|---|"]
        for column in columns:
            null = "key" if column["key"] else "yes" if column["nullable"] else "no"
            rows.append(f"| `{column['name']}` | {column['type']} | {null} | {_cell(column['comment'])} |")
        parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


def _cell(comment: str | None) -> str:
    return " ".join((comment or "").split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(sys.argv[1]), "utf-8")
