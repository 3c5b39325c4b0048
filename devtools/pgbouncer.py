"""A real PgBouncer in front of a test's server: Debian's, with its default ini but for addresses and the mode."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from devtools.postgres.account import account_for_postgres

BINARY = "pgbouncer"
START_SECONDS = 20.0


def why_missing() -> str | None:
    """Why no PgBouncer can be started here; None where one can."""
    return None if _binary() else "no pgbouncer (Debian's package pgbouncer)"


def _binary() -> str | None:
    return shutil.which(BINARY, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")


class PgBouncer:
    """A running one; `url` gives an address through it."""

    def __init__(self, port: int) -> None:
        """Made by `pgbouncer`."""
        self.port = port

    def url(self, direct: str) -> str:
        """The same login and database, through the pooler."""
        parts = urlsplit(direct)
        return urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{self.port}"))


@contextmanager
def pgbouncer(*urls: str, mode: str | None = None, **settings: str) -> Iterator[PgBouncer]:
    """Starts one that knows the logins of `urls`, all of one server; `mode` None leaves the ini's default, session.

    `settings` are further lines of its ini.
    """
    binary = _binary()
    assert binary is not None
    server = urlsplit(urls[0])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    lines = {
        "listen_addr": "127.0.0.1",
        "listen_port": str(port),
        "unix_socket_dir": "",
        "auth_type": "plain",
        **({"pool_mode": mode} if mode else {}),
        **settings,
    }
    with tempfile.TemporaryDirectory(prefix="nexus-auth-pgbouncer-") as name:
        folder = Path(name)
        users = folder / "users.txt"
        logins = {unquote(u.username or ""): unquote(u.password or "") for u in map(urlsplit, urls)}
        users.write_text("".join(f'"{login}" "{password}"\n' for login, password in logins.items()))
        ini = folder / "pgbouncer.ini"
        ini.write_text(
            f"[databases]\n* = host=127.0.0.1 port={server.port}\n[users]\n[pgbouncer]\nauth_file = {users}\n"
            + "".join(f"{name} = {value}\n" for name, value in lines.items())
        )
        account = account_for_postgres(folder)
        if account is not None:
            for path in (folder, users, ini):
                os.chown(path, account.uid, account.gid)
        with (folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [binary, "--quiet", str(ini)],
                stdout=log,
                stderr=log,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
            )
        try:
            deadline = time.monotonic() + START_SECONDS
            while not _answers(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"PgBouncer does not start: {(folder / 'log').read_text()}")
                time.sleep(0.02)
            yield PgBouncer(port)
        finally:
            process.terminate()
            process.wait(10)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
