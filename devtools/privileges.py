"""Writes the golden list of all privileges of all roles: `python -m devtools.privileges DATABASE_URL`.

`nexus_auth/store/privileges.txt` is read by every service at start-up and compared by a test: a grant that nobody meant
shows up as a changed line in review.
"""

import asyncio
import sys
from pathlib import Path

import asyncpg

import nexus_auth.store
from nexus_auth.store.pool import LISTING

GROUPS = ("owner", "definer", "migrator", "writer", "webhook", "reconciler", "worker", "cli")
API_ROLES = ("anon", "authenticated", "service_role", "public")
GOLDEN = Path(nexus_auth.store.__file__).with_name("privileges.txt")

COLUMNS = """
select 'known: column ' || c.oid::regclass || '.' || a.attname || ' any' as line
from pg_catalog.pg_class c join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where c.relnamespace in ('clerk'::regnamespace, 'clerk_private'::regnamespace) and c.relkind in ('r', 'p', 'v', 'm')
  and c.relname !~ '^inbox_\\d{8}$'
order by 1
"""
"""Columns that nobody has a right of its own on: without them a grant on one would pass for that of a newer schema."""

MEMBERSHIPS = """
select g.rolname as line from pg_catalog.pg_roles g
where g.rolname <> $1 and pg_catalog.pg_has_role($1::name, g.oid, 'member') order by 1
"""


async def privileges(database_url: str, *, role_prefix: str = "clerk_") -> list[str]:
    """Every line of the list, as the database has it now: "<group>: <what> <object> <privilege>"."""
    connection = await asyncpg.connect(database_url)
    try:
        lines: list[str] = []
        for group in (*GROUPS, *API_ROLES):
            role = role_prefix + group if group in GROUPS else group
            if role != "public":
                members = await connection.fetch(MEMBERSHIPS, role)
                lines += [f"{group}: member of {row['line'].removeprefix(role_prefix)}" for row in members]
            lines += [f"{group}: {row['line']}" for row in await connection.fetch(LISTING, role)]
        lines += [row["line"] for row in await connection.fetch(COLUMNS)]
        return lines
    finally:
        await connection.close()


def main() -> None:
    """Asks the named database, freshly migrated, and writes the list."""
    GOLDEN.write_text("\n".join(asyncio.run(privileges(sys.argv[1]))) + "\n", "utf-8")
    print(f"{GOLDEN.name}: {len(GOLDEN.read_text('utf-8').splitlines())} lines")


if __name__ == "__main__":
    main()
