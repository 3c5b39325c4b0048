"""Failpoints: named places where a test stops a running process, looks, and lets it go on or kills it.

A folder is the whole protocol: while a file `<name>` lies in it, a process that comes to failpoint `<name>` writes
`<name>.<pid>.reached` beside it and waits until `<name>` is gone. Off, as in every deployment, a failpoint is one call
of an empty coroutine per transaction.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

Failpoint = Callable[[str], Awaitable[None]]


async def nowhere(_name: str) -> None:
    """Nothing is planted."""


def in_folder(folder: Path) -> Failpoint:
    """Stops wherever `folder` says so."""

    async def reach(name: str) -> None:
        planted = folder / name
        if not planted.exists():
            return
        (folder / f"{name}.{os.getpid()}.reached").touch()
        while planted.exists():  # noqa: ASYNC110 - the tests' own signal, nothing in the process could set an event
            await asyncio.sleep(0.005)

    return reach
