"""A server that somebody else runs, named by `DATABASE_URL`, in the place of the embedded one."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote, urlsplit, urlunsplit

from devtools.postgres.places import home_for
from devtools.postgres.server import Server


class ForeignServer:
    """Offers what can be asked of a server that is not ours: an administrator's URL of each of its databases."""

    alive = True

    def __init__(self, admin_url: str) -> None:
        """`admin_url` is the URL of a superuser, or of a role with CREATEDB and CREATEROLE, with its password."""
        if not urlsplit(admin_url).password:
            raise ValueError("DATABASE_URL needs a user and a password: the logins' passwords are drawn from it")
        self._url = admin_url

    def admin_url(self, database: str | None = None) -> str:
        """The administrator's URL, of another database if one is named."""
        if database is None:
            return self._url
        return urlunsplit(urlsplit(self._url)._replace(path="/" + quote(database, safe="")))

    def __enter__(self) -> Self:
        """Starts nothing."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stops nothing."""


def server_for(
    environment: Mapping[str, str], *, name: str, version: int = 18, home: Path | None = None
) -> Server | ForeignServer:
    """The server of `DATABASE_URL` if that is set, else an embedded one of that name (not started yet)."""
    url = environment.get("DATABASE_URL")
    return ForeignServer(url) if url else Server(home or home_for(name, version=version), version=version)
