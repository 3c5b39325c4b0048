"""The standalone reconciler as the process that it is: started, frozen, killed."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from devtools.clerk_emulator import Emulator
from devtools.postgres import Database

ROOT = Path(__file__).parents[2]
SYNC = "main"
SECONDS = 30.0


def write_manifests(folder: Path, *, clerk: Emulator, database: Database) -> None:
    """Manifests of a sync that repairs everything, and the secrets that they name."""
    for name, key, value in (
        ("clerk", "secretKey", clerk.secret_key),
        ("database", "url", database.url("reconciler")),
    ):
        (folder / "secrets" / name).mkdir(parents=True, exist_ok=True)
        (folder / "secrets" / name / key).write_text(value)
    secret = {"name": "database", "key": "url"}
    instance: dict[str, Any] = {
        "instanceId": clerk.instance_id,
        "apiUrl": clerk.api_url,
        "secretKeyRef": {"name": "clerk", "key": "secretKey"},
        "environment": "Production",
        "budgetPercent": 100,
        "stateDatabase": {"secretRef": secret},
    }
    sync: dict[str, Any] = {
        "instanceRef": {"name": SYNC},
        "database": {"secretRef": secret},
        "interval": "1h",
        "drift": {"policy": "Fix"},
    }
    documents = [
        {"apiVersion": "nexus-auth.dev/v1alpha1", "kind": kind, "metadata": {"name": SYNC}, "spec": spec}
        for kind, spec in (("ClerkInstance", instance), ("ClerkSync", sync))
    ]
    (folder / "manifests.yaml").write_text(yaml.safe_dump_all(documents))


class Reconciler:
    """One process of `python -m services.reconciler.standalone`. Usable as an async context manager."""

    def __init__(self, folder: Path, *, name: str, failpoints: Path | None = None) -> None:
        """`folder` holds what `write_manifests` wrote."""
        self.log = folder / f"{name}.log"
        self._folder = folder
        self._failpoints = failpoints
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "NEXUS_AUTH_MANIFESTS": str(self._folder / "manifests.yaml"),
            "NEXUS_AUTH_SECRETS_DIR": str(self._folder / "secrets"),
            "NEXUS_AUTH_HEALTH_PORT": "0",
            "NEXUS_AUTH_VERIFY_AFTER": "0",
            "NEXUS_AUTH_LOOK_SECONDS": "0.1",
            "NEXUS_AUTH_ALLOW_FSYNC_OFF": "1",
        }
        if self._failpoints is not None:
            environment["NEXUS_AUTH_FAILPOINTS_DIR"] = str(self._failpoints)
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "services.reconciler.standalone"),
                env=environment,
                cwd=self._folder,
                stdout=log,
                stderr=log,
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.kill()

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

    async def kill(self) -> None:
        """SIGKILL: nothing is finished, nothing is said."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    async def said(self, text: str) -> None:
        """Returns once the log holds this text."""
        await until(lambda: self.log.exists() and text in self.log.read_text(), what=f"{text!r} in {self.log}")

    async def reached(self, failpoint: str) -> None:
        """Returns once it stands at a failpoint."""
        assert self._failpoints is not None
        mark = self._failpoints / f"{failpoint}.{self.process.pid}.reached"
        await until(mark.exists, what=f"{failpoint}:\n{self.log.read_text()}")


async def until(true: Any, *, what: str) -> None:
    """Returns once `true()` is."""
    deadline = time.monotonic() + SECONDS
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(f"did not happen in {SECONDS} s: {what}")
        await asyncio.sleep(0.02)
