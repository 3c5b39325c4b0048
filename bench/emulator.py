"""The emulator as a process of its own: what is measured shares no interpreter with what stands in for Clerk."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.events import INSTANCE, SECRET
from tests.service import ROOT

API_KEY = "sk_test_bench"


@dataclass(frozen=True, slots=True)
class Started:
    """A running emulator. `url`: its page, its control address below it, and the API's root without /v1."""

    url: str
    pid: int


@asynccontextmanager
async def emulator(*settings: str, folder: Path, endpoints: Sequence[str] = ()) -> AsyncIterator[Started]:
    """Starts one with command line settings, of the tests' instance, sending to the endpoints; stops it at the end."""
    log = folder / "emulator.log"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "devtools.clerk_emulator",
        *("--instance-id", INSTANCE),
        *settings,
        *(word for url in endpoints for word in ("--endpoint", url)),
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "CLERK_EMULATOR_SECRET_KEY": API_KEY,
            "CLERK_EMULATOR_ENDPOINT_SECRET": SECRET,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=log.open("wb"),
    )
    try:
        assert process.stdout is not None
        async for line in process.stdout:
            word, _, address = line.decode().strip().partition(" ")
            if word == "page":
                yield Started(address.strip().rstrip("/"), process.pid)
                break
        else:
            raise RuntimeError(f"the emulator did not start: {log.read_text()}")
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
