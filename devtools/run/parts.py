"""A part of the run as a process: started, listened to, stopped. One object is one process; a restart is another."""

import asyncio
import json
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Self

from devtools.loopback import drop_real_world
from devtools.postgres.places import CHECKOUT
from devtools.run.leash import PATIENCE

LAST_LINES = 12
LINE_BYTES = 2**20


class PartFailed(Exception):
    """A part is not what the run needs; `last_lines` is what it said before."""

    def __init__(self, name: str, *, what: str, last_lines: Sequence[str] = ()) -> None:
        """`what` completes a sentence that begins with the part's name."""
        super().__init__(f"{name} {what}")
        self.name = name
        self.what = what
        self.last_lines = tuple(last_lines)


class Part:
    """One process of `PACKAGE.__main__`, on the leash of ours."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, *, heard: Callable[[str], str]) -> None:
        """Use `start`."""
        self.name = name
        self.ready = asyncio.Event()
        self._process = process
        self._last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self._heard = heard
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def start(
        cls, name: str, package: str, *arguments: str, heard: Callable[["Part", str], str] | None = None
    ) -> Self:
        """Starts the process, which waits for `begin`. `heard` is given each line and answers it as people read it."""
        environment = dict(os.environ)
        drop_real_world(environment)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "devtools.run.leash",
            package,
            *arguments,
            cwd=CHECKOUT,
            env={**environment, "PYTHONUNBUFFERED": "1"},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=LINE_BYTES,
            process_group=0,  # a Ctrl-C in the terminal is for the supervisor, who stops one part after the other
        )
        part = cls(name, process, heard=lambda line: heard(part, line) if heard else line)
        return part

    def begin(self, environment: Mapping[str, str]) -> None:
        """Tells the process the rest of its environment; it runs from here on."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(dict(environment)).encode() + b"\n")

    async def until_ready(self, *, timeout: float = 60.0) -> None:
        """Returns once `ready` is set. Raises `PartFailed` where the process ends first, or after `timeout` seconds."""
        ready, ended = asyncio.create_task(self.ready.wait()), asyncio.create_task(self.ended())
        try:
            await asyncio.wait({ready, ended}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if not ready.done():
                raise ended.result() if ended.done() else self._failed(f"did not get ready in {timeout:g} s")
        finally:
            ready.cancel()
            ended.cancel()

    async def ended(self) -> PartFailed:
        """Waits for the process to end by itself, and answers how it did."""
        code = await self._process.wait()
        await asyncio.wait({self._listening}, timeout=1)
        return self._failed(f"was ended by {_signal(-code)}" if code < 0 else f"ended with exit code {code}")

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for a signal."""
        return self._process.returncode

    async def stop(self) -> None:
        """Asks the process to end, and makes it where it does not."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(PATIENCE + 2):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await asyncio.wait({self._listening}, timeout=1)
        self._listening.cancel()

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        while True:
            try:
                line = await self._process.stdout.readline()
            except ValueError:  # longer than the limit: asyncio has dropped it
                continue
            if not line:
                return
            self._last_lines.append(self._heard(line.decode("utf-8", "replace").rstrip()))

    def _failed(self, what: str) -> PartFailed:
        return PartFailed(self.name, what=what, last_lines=[line for line in self._last_lines if line])


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
