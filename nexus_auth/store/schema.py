"""The schema's version, for services that never migrate: they say that somebody should, and do nothing until then.

A newer schema is welcome (expand and contract); an older one has no place for what we would write.
"""

from typing import Any

import asyncpg

REQUIRED = "20261125000008"
"""The newest migration that this code needs."""


class SchemaOutdated(Exception):
    """The database has not been migrated to what this code needs; says from where to where."""


async def schema_version(connection: Any) -> str:
    """The newest migration that was applied. Raises `SchemaOutdated` where it is older than `REQUIRED`."""
    try:
        version: str = await connection.fetchval("select clerk_private.schema_version()")
    except (asyncpg.UndefinedFunctionError, asyncpg.InvalidSchemaNameError, asyncpg.UndefinedTableError):
        version = "none"
    if version == "none" or version < REQUIRED:
        database = await connection.fetchval("select pg_catalog.current_database()")
        has = f"is at {version}" if version != "none" else "has no schema of ours (is it the right one?)"
        raise SchemaOutdated(
            f"database {database} {has}, {REQUIRED} is needed: run the migrations (nexus-auth migrate)"
        )
    return version
