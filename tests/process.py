"""A service of ours as the process that it is: started, watched by its log, frozen, killed."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[1]
SECONDS = 30.0


class Process:
    """One process of `python -m module`. Usable as an async context manager, at whose end it is killed."""

    def __init__(self, folder: Path, *, module: str, name: str, environment: Mapping[str, str]) -> None:
        """Starts nothing yet. It runs in `folder`, and its log is there by its name."""
        self.log = folder / f"{name}.log"
        self._module = module
        self._environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "NEXUS_AUTH_ALLOW_FSYNC_OFF": "1",
            **environment,
        }
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", self._module),
                env=self._environment,
                cwd=self.log.parent,
                stdout=log,
                stderr=log,
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.kill()
        if kind is not None:
            print(self.log.read_text()[-6_000:])

    @property
    def process(self) -> asyncio.subprocess.Process:
        """It must have been started."""
        assert self._process is not None
        return self._process

    def freeze(self) -> None:
        """SIGSTOP."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    async def stop(self) -> float:
        """SIGTERM; answers how many seconds it took to end with exit code 0."""
        began = time.monotonic()
        self.process.terminate()
        assert await self.ended() == 0, self.log.read_text()[-3_000:]
        return time.monotonic() - began

    async def kill(self) -> None:
        """SIGKILL: nothing is finished, nothing is said."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    async def ended(self) -> int:
        """Its exit code."""
        async with asyncio.timeout(SECONDS):
            return await self.process.wait()

    async def said(self, text: str) -> None:
        """Returns once the log holds this text."""
        await until(lambda: text in self.log.read_text(), what=lambda: f"{text!r} in {self.log.read_text()[-4_000:]}")

    async def reached(self, failpoint: str) -> None:
        """Returns once it stands at a failpoint."""
        mark = Path(self._environment["NEXUS_AUTH_FAILPOINTS_DIR"]) / f"{failpoint}.{self.process.pid}.reached"
        await until(mark.exists, what=lambda: f"{failpoint}:\n{self.log.read_text()}")


async def until(true: Callable[[], Any], *, what: Callable[[], str], seconds: float = SECONDS) -> None:
    """Returns once `true()` is; it may be a coroutine function."""
    deadline = time.monotonic() + seconds
    while True:
        answer = true()
        if asyncio.iscoroutine(answer):
            answer = await answer
        if answer:
            return
        assert time.monotonic() < deadline, f"did not happen: {what()}"
        await asyncio.sleep(0.02)
