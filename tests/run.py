"""`make run` as a process in a terminal, in a pipe, and as the tree of processes that it becomes."""

import asyncio
import fcntl
import os
import pty
import re
import shlex
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp

ROOT = Path(__file__).parents[1]

VARIABLES = {
    *("WEBHOOK_URL", "WEBHOOK_SECRETS", "CLERK_API_URL", "CLERK_SECRET_KEY", "CLERK_INSTANCE_ID", "EMULATOR_URL"),
    *("WEBHOOK_DATABASE_URL", "RECONCILER_DATABASE_URL", "WORKER_DATABASE_URL", "CLI_DATABASE_URL"),
    *("APP_DATABASE_URL", "ADMIN_DATABASE_URL", "METRICS_URLS", "NEXUS_AUTH_WITHHOLD_KEY"),
    *("NEXUS_AUTH_SYNC", "RECONCILER_MANIFESTS"),
}
"""What `.run/env` holds where the emulator runs."""


class Run:
    """One `python -m devtools.run`; killed at the end of the block if it still runs."""

    def __init__(
        self,
        home: Path,
        *,
        terminal: bool = False,
        environment: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        self.home = home
        self._arguments = arguments
        self.env_file = home / ".run" / "env"
        self._environment = environment or {}
        self._terminal = terminal
        self._output = b""
        self._closed = False
        self._started = False

    @property
    def text(self) -> str:
        """What it printed, errors included."""
        return self._output.decode("utf-8", "replace")

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self) -> Self:
        ours, theirs = pty.openpty() if self._terminal else os.pipe()
        self.reading = ours
        self._process = subprocess.Popen(
            command(self.home, *self._arguments),
            env={**os.environ, **self._environment},
            stdin=theirs if self._terminal else subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            cwd=ROOT,
            start_new_session=True,
            preexec_fn=(lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)) if self._terminal else None,
        )
        self._started = True
        os.close(theirs)
        os.set_blocking(ours, False)
        asyncio.get_running_loop().add_reader(ours, self._read)
        return self

    def _read(self) -> None:
        try:
            piece = os.read(self.reading, 65_536)
        except OSError:  # a terminal whose other side is gone
            piece = b""
        if not piece:
            asyncio.get_running_loop().remove_reader(self.reading)
            self._closed = True
        self._output += piece

    async def says(self, pattern: str, *, seconds: float = 60) -> re.Match[str]:
        """Waits for the output to match."""

        def found() -> re.Match[str] | None:
            return re.search(pattern, self.text, re.MULTILINE)

        assert await until(lambda: found() or self._closed, seconds=seconds), f"no {pattern!r} in:\n{self.text}"
        match = found()
        assert match, f"it ended without {pattern!r}:\n{self.text}"
        return match

    async def ready(self) -> dict[str, str]:
        """Waits for the end of the greeting; answers the variables of `.run/env`."""
        await self.says(r"ready in \d+\.\d s")
        words = shlex.split(self.env_file.read_text(), comments=True)
        return dict(word.split("=", 1) for word in words)

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    async def exit_code(self, *, seconds: float = 30) -> int:
        assert await until(lambda: self.ended, seconds=seconds), f"it does not end:\n{self.text}"
        return self._process.returncode

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def look_away(self) -> None:
        """Reads nothing more, as a terminal after Ctrl-S."""
        asyncio.get_running_loop().remove_reader(self.reading)

    def look_again(self) -> None:
        """Reads on."""
        asyncio.get_running_loop().add_reader(self.reading, self._read)

    def hang_up(self) -> None:
        """Closes our side of the terminal or pipe."""
        asyncio.get_running_loop().remove_reader(self.reading)
        os.close(self.reading)
        self.reading = os.open(os.devnull, os.O_RDONLY)

    def processes(self) -> dict[int, str]:
        """Every process below the supervisor: its pid and command line."""
        return descendants(self.pid)

    async def has_processes(self, count: int) -> bool:
        """Waits until so many are there."""
        return await until(lambda: len(self.processes()) >= count, seconds=20)

    def find(self, pattern: str) -> int:
        """The one process whose command line matches."""
        (pid,) = [pid for pid, arguments in self.processes().items() if re.search(pattern, arguments)]
        return pid

    async def __aenter__(self) -> Self:
        return self if self._started else self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        everything = descendants(self.pid)
        self._process.kill()
        self._process.wait()
        await until(lambda: not alive(everything), seconds=20)
        asyncio.get_running_loop().remove_reader(self.reading)
        os.close(self.reading)


def command(home: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "devtools.run", "--home", str(home), *arguments]


async def until(condition: Callable[[], object], *, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.02)
    return True


def descendants(root: int) -> dict[int, str]:
    parents: dict[int, int] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = file.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state != "Z":
            parents[int(file.parent.name)] = int(parent)
    found: dict[int, str] = {}
    layer = [root]
    while layer:
        layer = [pid for pid, parent in parents.items() if parent in layer]
        for pid in layer:
            try:
                found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            except OSError:
                continue
    return found


def alive(processes: dict[int, str]) -> list[str]:
    """Those that still are what they were."""
    left = []
    for pid, arguments in processes.items():
        try:
            now = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        except OSError:
            continue
        if now and now == arguments:
            left.append(f"{pid} {arguments}")
    return left


def listens(url: str) -> bool:
    host, _, port = re.sub(r"^\w+://(.*@)?", "", url).partition("/")[0].partition(":")
    with socket.socket() as client:
        return client.connect_ex((host, int(port))) == 0


async def nothing_left(processes: dict[int, str], variables: dict[str, str], *, seconds: float = 10) -> None:
    await until(lambda: not alive(processes), seconds=seconds)
    assert alive(processes) == []
    urls = ("WEBHOOK_URL", "METRICS_URLS", "EMULATOR_URL", "ADMIN_DATABASE_URL")
    assert [url for name in urls for url in variables[name].split() if listens(url)] == []


async def create_user(variables: dict[str, str], email: str) -> str:
    """By Clerk's API; answers the id."""
    headers = {"Authorization": f"Bearer {variables['CLERK_SECRET_KEY']}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        answer = await session.post(f"{variables['CLERK_API_URL']}/v1/users", json={"email_address": [email]})
        assert answer.status == 200, await answer.text()
        return str((await answer.json())["id"])


async def delete_user(variables: Mapping[str, str], user_id: str) -> None:
    """By Clerk's API."""
    headers = {"Authorization": f"Bearer {variables['CLERK_SECRET_KEY']}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        answer = await session.delete(f"{variables['CLERK_API_URL']}/v1/users/{user_id}")
        assert answer.status == 200, await answer.text()


async def newest_users(variables: Mapping[str, str], *, offset: int) -> list[str]:
    """Ids of ten users, newest first, after so many."""
    headers = {"Authorization": f"Bearer {variables['CLERK_SECRET_KEY']}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        answer = await session.get(f"{variables['CLERK_API_URL']}/v1/users?limit=10&offset={offset}")
        assert answer.status == 200, await answer.text()
        return [str(user["id"]) for user in await answer.json()]


async def create_user_on_the_page(variables: dict[str, str], email: str) -> str:
    """As a browser does it; answers the id that the page shows."""
    async with aiohttp.ClientSession() as session:
        form = {"email_address": email, "first_name": "Grace"}
        answer = await session.post(f"{variables['EMULATOR_URL']}forms/create_user", data=form)
        found = re.search(r"(user_\w+) was created", await answer.text())
        assert found
        return found[1]


async def emit(variables: Mapping[str, str], count: int) -> None:
    """Sends so many events of a kind that is only kept, and waits until none is on its way."""
    events = [{"type": "session.created", "sample": True}] * count
    async with aiohttp.ClientSession(variables["CLERK_API_URL"]) as session:
        assert (await session.post("/_emulator/events", json=events)).status == 202
        assert (await session.get("/_emulator/idle?timeout=60")).status == 200


async def psql(home: Path, user_id: str, query: str = "select id, primary_email from clerk.users") -> list[str]:
    """The rows that a user sees, by the command that the greeting prints."""
    done = await finished(command(home, "psql", "--as", user_id, "-XAt", "-c", query))
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


async def finished(
    arguments: Sequence[str], environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end, in the checkout."""

    def run() -> subprocess.CompletedProcess[str]:
        variables = {**os.environ, **(environment or {})}
        return subprocess.run(arguments, env=variables, capture_output=True, text=True, check=False, cwd=ROOT)

    return await asyncio.to_thread(run)
