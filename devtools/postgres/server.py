"""One embedded Postgres: initdb, start, stop, crash, start again on the same data.

Everything is durable as in production (fsync on) and shut as in production: scram passwords, 127.0.0.1 only, a socket
folder of its own with mode 0700. The process that starts a server owns it, by a file lock; when that process dies, its
watchdog stops the server (`watchdog.py`). What a crash of both leaves behind is put right by the next start.
"""

import contextlib
import fcntl
import functools
import os
import random
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from urllib.parse import quote

from devtools.postgres import postmaster
from devtools.postgres.account import Account, account_for_postgres
from devtools.postgres.binaries import find_binaries
from devtools.postgres.places import make_folder
from devtools.postgres.watchdog import PATIENCE

SETTINGS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}
PORTS = range(20_000, 32_768)
"""Below the range from which outgoing connections take theirs: a port there may be gone at the moment of a restart."""

REMOVED = "removed-"
"""Beginning of the name of a folder that is being removed."""

SOCKET_PATH_BYTES = 100
LOG_BYTES = 10_000_000


class ServerFailed(Exception):
    """The server could not be started or stopped; the text holds the last lines of its log."""


class Server:
    """A Postgres of our own in one folder (`home`), for one process at a time.

    `settings` are `-c` settings on top of ours; a test that never asks about durability may pass `{"fsync": "off"}`,
    the webhook service then refuses to start. Usable as a context manager: started on entry, stopped on exit, data
    kept.
    """

    def __init__(
        self,
        home: Path,
        *,
        version: int = 18,
        settings: Mapping[str, str] | None = None,
        copies: Path | None = None,
    ) -> None:
        """Names the folder; nothing is created or started before `start`.

        Below `copies` lie programs that Postgres's account cannot reach elsewhere; beside `home` unless it is given.
        """
        self.home = home
        self._copies = copies or home.parent
        self.version = version
        self.settings = {**SETTINGS, **(settings or {})}
        self._lock: IO[str] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def data(self) -> Path:
        """PGDATA, mode 0700."""
        return self.home / "data"

    @property
    def log(self) -> Path:
        """What the server said, since the folder exists (the last 10 MB at least)."""
        return self.home / "log"

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1; the same after a restart unless somebody else took it meanwhile."""
        return int((self.home / "port").read_text())

    @property
    def pid(self) -> int | None:
        """The postmaster's process id while it runs."""
        return postmaster.live_pid(self.data)

    @property
    def alive(self) -> bool:
        """Whether the server that this object started still runs."""
        return self._watchdog is not None and self._watchdog.poll() is None

    def admin_url(self, database: str = "postgres") -> str:
        """A superuser's URL; without TLS, which the embedded wheel has not: nothing of it leaves the machine."""
        password = (self.home / "password").read_text()
        return f"postgresql://postgres:{password}@127.0.0.1:{self.port}/{quote(database, safe='')}?sslmode=disable"

    def last_log_lines(self, count: int = 20) -> list[str]:
        """The last lines that the server wrote since it was started by this object."""
        with contextlib.suppress(FileNotFoundError), self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace").splitlines()[-count:]
        return []

    def start(self, *, timeout: float = 60.0) -> Self:
        """Starts the server, on its old data where there is some, and returns when it accepts connections.

        Raises `ServerFailed` (in use by another process, does not start within `timeout` seconds) or `BinariesMissing`.
        """
        if self.alive:
            return self
        self.claim()
        try:
            self._stop_orphan()
            if not self.data.is_dir():
                self._initialize()
            for port in self._candidates():
                if self._launch(port, deadline=time.monotonic() + timeout):
                    return self
        except BaseException:
            self.release()
            raise
        self.release()
        raise ServerFailed("no free port found")

    def stop(self) -> None:
        """Fast shutdown: sessions are cut, a checkpoint is written. Harmless where nothing runs; we keep the folder."""
        if self._watchdog is not None and self._watchdog.stdin is not None:
            self._watchdog.stdin.close()
            self._watchdog.wait()
            self._watchdog = None
        if self._lock is not None:
            self._stop_orphan()

    def kill(self) -> None:
        """SIGKILL for the postmaster and every process of it, at once: what a power cut leaves. `start` recovers."""
        pid = self.pid
        if pid is None:
            raise ServerFailed("there is no server to kill")
        postmaster.crash(pid, timeout=10)
        if self._watchdog is not None:
            self._watchdog.wait(10)

    def restart(self) -> None:
        """Stops in good order and starts again; after `kill` it only starts."""
        self.stop()
        self.start()

    def destroy(self) -> None:
        """Stops the server and removes its folder with all data; `ServerFailed` where another process has it."""
        self.claim()
        self.stop()
        # Moved first: whoever finds the lock file gone would make a new one and take a half removed folder for his own.
        removed = self.home.with_name(f"{REMOVED}{secrets.token_hex(4)}")
        self.home.rename(removed)
        shutil.rmtree(removed, ignore_errors=True)
        self.release()

    def __enter__(self) -> Self:
        """Starts the server."""
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stops the server and releases its folder."""
        self.release()

    def claim(self) -> None:
        """Makes the folder and takes it for this process, without a start; `ServerFailed` where another has it."""
        if self._lock is not None:
            return
        make_folder(self.home, mode=0o755 if os.geteuid() == 0 else 0o700)
        lock = (self.home / "lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            owner = lock.read().strip()
            lock.close()
            raise ServerFailed(f"{self.home} is in use by process {owner}") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock = lock

    def release(self) -> None:
        """Stops the server and leaves its folder to others; the end of the process does the same."""
        self.stop()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _stop_orphan(self) -> None:
        """With the lock in our hands, a server that still runs has lost its owner: it is stopped."""
        for number, seconds in PATIENCE:
            pid = self.pid
            if pid is None:
                return
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            with contextlib.suppress(TimeoutError):
                postmaster.wait_until_gone([pid], timeout=seconds)

    def _initialize(self) -> None:
        """initdb beside the final place: a run that is killed in the middle leaves no half-made data."""
        password = secrets.token_hex(16)
        note = self.home / "password"
        note.unlink(missing_ok=True)
        note.touch(mode=0o600)
        note.write_text(password)
        unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=self.home))
        try:
            (unfinished / "password").write_text(password)
            self._give(unfinished)
            self._give(unfinished / "password")
            options = ["--username=postgres", "--auth=scram-sha-256", f"--pwfile={unfinished / 'password'}"]
            done = subprocess.run(
                [self._binary("initdb"), "--encoding=UTF8", "--no-locale", *options, "-D", unfinished / "data"],
                user=self._account.uid if self._account else None,
                group=self._account.gid if self._account else None,
                extra_groups=[] if self._account else None,
                cwd=unfinished,
                env=self._environment(),
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode != 0:
                raise ServerFailed(f"initdb: {done.stderr.strip()}")
            (unfinished / "data").rename(self.data)
        finally:
            shutil.rmtree(unfinished)

    def _candidates(self) -> Iterator[int]:
        """The port of last time first, then free ones at random: others choose at the same moment."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            yield self.port
        for port in random.sample(PORTS, 50):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
            yield port

    def _launch(self, port: int, *, deadline: float) -> bool:
        """True when it accepts connections, False where the port is taken."""
        while True:
            self._spawn(port)
            while self.alive and time.monotonic() < deadline:
                if postmaster.is_ready(self.data):
                    (self.home / "port").write_text(str(port))
                    return True
                time.sleep(postmaster.POLL_SECONDS)
            said = "\n".join(self.last_log_lines())
            if self.alive or time.monotonic() > deadline:
                raise ServerFailed(f"Postgres {self.version} does not get ready:\n{said}")
            if "Address already in use" in said:
                return False
            if "is still in use" not in said:  # processes of a killed server, about to end
                raise ServerFailed(f"Postgres {self.version} does not start:\n{said}")

    def _spawn(self, port: int) -> None:
        sockets = self._socket_folder()
        settings = {**self.settings, "port": str(port), "unix_socket_directories": _quoted(sockets)}
        command: list[str | Path] = [self._binary("postgres"), "-D", self.data]
        command += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            self.log.replace(self.home / "log.old")
        who = (str(self._account.uid), str(self._account.gid)) if self._account else ("-", "-")
        removes = "-" if sockets.parent == self.home else sockets
        self.log.touch(mode=0o600)
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self._watchdog = subprocess.Popen(
                [sys.executable, "-I", "-S", Path(__file__).with_name("watchdog.py"), *who, removes, *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.home,
                env=self._environment(),
                start_new_session=True,  # a Ctrl-C in the terminal is for the owner, who stops us in good order
            )

    def _socket_folder(self) -> Path:
        """A folder of mode 0700: in our home, or a fresh short one where that path is too long for a socket."""
        folder = self.home / "socket"
        if len(os.fsencode(folder / f".s.PGSQL.{PORTS.stop}.lock")) <= SOCKET_PATH_BYTES:
            make_folder(folder, mode=0o700)
        else:
            folder = Path(tempfile.mkdtemp(prefix="nexus-auth-"))  # the watchdog removes it
        self._give(folder)
        return folder

    @functools.cached_property
    def _account(self) -> Account | None:
        return account_for_postgres(self.home)

    def _binary(self, name: str) -> Path:
        return find_binaries(self.version, account=self._account, copies=self._copies) / name

    def _environment(self) -> dict[str, str]:
        """None of the owner's secrets and PG variables. Postgres takes the pid named here for a stale one, if it meets
        it in its pid file: no postmaster runs on the data now, but that number may live on as something else.
        """
        stale = postmaster.noted_pid(self.data)
        known = {"PG_GRANDPARENT_PID": str(stale)} if stale else {}
        return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC", **known}

    def _give(self, path: Path) -> None:
        if self._account is not None:
            os.chown(path, self._account.uid, self._account.gid)


def _quoted(folder: Path) -> str:
    """A folder as an item of a list setting, where commas and spaces mean something."""
    return '"' + str(folder).replace('"', '""') + '"'
