"""The webhook service as the process that it is: started, asked, killed."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from devtools.postgres import Database
from tests.events import INSTANCE, SECRET, Signed

ROOT = Path(__file__).parents[1]
WITHHOLD_KEY = "tests-only-withhold-key-0123456789abcdef"


class WebhookService:
    """One process of `python -m services.webhook` on free ports, against a test's database.

    `settings` are environment variables on top of the usual ones (None takes one away). Usable as an async context
    manager that returns once the service is ready, unless `wait=False`.
    """

    program: str = "services.webhook"
    """The package that Python runs, on the leash: it ends with the test that started it, also where that was killed.
    A control runs a sabotaged one.
    """

    def __init__(self, database: Database, *, folder: Path, wait: bool = True, **settings: str | None) -> None:
        self._folder = folder
        self._wait = wait
        self._environment = self._complete(database, settings)
        self._process: asyncio.subprocess.Process | None = None
        self._session: aiohttp.ClientSession | None = None
        self.url = ""
        self.health_url = ""

    @staticmethod
    def _complete(database: Database, settings: Mapping[str, str | None]) -> dict[str, str]:
        environment: dict[str, str | None] = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "DATABASE_URL": database.url("webhook"),
            "CLERK_WEBHOOK_SIGNING_SECRET": SECRET,
            "CLERK_INSTANCE_ID": INSTANCE,
            "NEXUS_AUTH_WITHHOLD_KEY": WITHHOLD_KEY,
            "NEXUS_AUTH_PORT": "0",
            "NEXUS_AUTH_HEALTH_PORT": "0",
            "NEXUS_AUTH_LOG_EVENTS": "1",
            **settings,
        }
        return {key: value for key, value in environment.items() if value is not None}

    @property
    def log(self) -> Path:
        """Everything that the service has said."""
        return self._folder / "webhook.log"

    @property
    def pid(self) -> int:
        """The process; it must have been started."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> Self:
        """Starts the process and waits for its ports, and with `wait` for its readiness."""
        with self.log.open("ab") as log:
            offset = log.tell()
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "devtools.run.leash",
                self.program,
                env=self._environment,
                cwd=self._folder,
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        assert self._process.stdin is not None
        self._process.stdin.write(b"{}\n")
        listening = await self.logged("listening", after=offset)
        self.url = f"http://127.0.0.1:{listening['port']}/webhooks/clerk"
        self.health_url = f"http://127.0.0.1:{listening['health_port']}"
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))  # no delivery waits here
        if self._wait:
            await self.ready()
        return self

    async def ready(self, *, seconds: float = 20) -> None:
        """Waits until /readyz says so."""
        deadline = time.monotonic() + seconds
        while await self.health("/readyz") != (200, "ok\n"):
            if time.monotonic() > deadline:
                raise AssertionError(f"not ready after {seconds} s:\n{self.log.read_text()}")
            await asyncio.sleep(0.02)

    async def post(self, signed: Signed, **headers: Any) -> tuple[int, str]:
        """Delivers; `headers` as for `Signed.headers`."""
        return await self.send(signed.body, signed.headers(**headers))

    async def send(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, str]:
        """Any request at all."""
        async with self.session.post(self.url, data=body, headers=headers) as response:
            return response.status, await response.text()

    async def health(self, path: str) -> tuple[int, str]:
        """GET on the health port."""
        async with self.session.get(self.health_url + path) as response:
            return response.status, await response.text()

    async def metric(self, sample: str) -> float:
        """One sample of /metrics by its name and labels as exposed; 0.0 where it is absent."""
        for line in (await self.health("/metrics"))[1].splitlines():
            name, _, value = line.rpartition(" ")
            if name == sample:
                return float(value)
        return 0.0

    @property
    def session(self) -> aiohttp.ClientSession:
        """A client with kept-alive connections."""
        assert self._session is not None
        return self._session

    async def logged(self, message: str, *, after: int = 0, seconds: float = 20) -> dict[str, Any]:
        """Waits for a log line with this message, from byte `after` on, and answers it."""
        deadline = time.monotonic() + seconds
        while True:
            text = self.log.read_bytes()[after:].decode("utf-8", "replace") if self.log.exists() else ""
            for line in text.splitlines():
                if line.startswith("{") and line.endswith("}") and (read := json.loads(line))["message"] == message:
                    return dict(read)
            exited = self._process is not None and self._process.returncode is not None
            if exited or time.monotonic() > deadline:
                raise AssertionError(f"the service did not say {message!r}:\n{text}")
            await asyncio.sleep(0.01)

    async def stop(self, *, seconds: float = 30) -> int:
        """SIGTERM; answers the exit code."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self._process.wait(), seconds)

    async def wait(self, *, seconds: float = 30) -> int:
        """Waits for the process to end by itself; answers the exit code."""
        assert self._process is not None
        return await asyncio.wait_for(self._process.wait(), seconds)

    async def kill(self) -> None:
        """SIGKILL: nothing is finished, nothing is said."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def close(self) -> None:
        """Ends everything that is still there."""
        if self._process is not None:
            await self.kill()
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
