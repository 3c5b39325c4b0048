"""Ready time of `make run`: from the command to the line that says so, on nothing and on the data of last time.

Measured as whoever types it sees it, the interpreter's own start included.
"""

import asyncio
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from devtools.postgres import Server, home_for
from tests.service import ROOT

READY = "ready in"
PATIENCE = 120.0
"""Seconds until a start counts as failed."""


class NotReady(Exception):
    """`make run` ended or hung; the text holds what it said."""


@dataclass(frozen=True, slots=True)
class Startup:
    """Seconds until ready."""

    first: tuple[float, ...]
    """Initdb, migrations and logins included."""
    again: tuple[float, ...]
    """With the data of the run before."""

    @property
    def first_median(self) -> float:
        """The middle one."""
        return statistics.median(self.first)

    @property
    def again_median(self) -> float:
        """The middle one."""
        return statistics.median(self.again)


async def measure(*, folder: Path, rounds: int, progress: Callable[[int], None] = lambda _: None) -> Startup:
    """Starts it `rounds` times on nothing, each time once more on what that left. Raises `NotReady`."""
    first: list[float] = []
    again: list[float] = []
    for number in range(rounds):
        home = folder / f"home-{number}"
        home.mkdir()
        try:
            for times in (first, again):
                times.append(await _start_and_stop(home))
                progress(len(first) + len(again))
        finally:
            Server(home_for("run", checkout=home)).destroy()
    return Startup(tuple(first), tuple(again))


async def _start_and_stop(home: Path) -> float:
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "devtools.run",
        "--home",
        str(home),
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    said: list[str] = []
    try:
        async with asyncio.timeout(PATIENCE):
            async for line in process.stdout:
                said.append(line.decode(errors="replace"))
                if said[-1].strip().startswith(READY):
                    return time.monotonic() - began
    except TimeoutError:
        pass
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()
    raise NotReady("make run did not get ready:\n" + "".join(said[-20:]))
