"""Runs the engine by manifests from a file: `python -m services.reconciler.standalone`."""

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from datetime import timedelta
from functools import partial
from os import getpid
from typing import Any

from aiohttp import web
from pydantic import ValidationError

from nexus_auth import failpoints, signals
from nexus_auth.clerk.api_hosts import ApiHosts
from nexus_auth.reconcile.engine import SweepResult
from nexus_auth.tasks import Supervisor
from nexus_auth.telemetry import logs
from nexus_auth.telemetry.health import health_application
from nexus_auth.telemetry.http import QuietRunner
from nexus_auth.telemetry.metrics import new_registry
from services.reconciler.leading import Access, Led, Terms, Trouble, opened, pause_after, trouble_of
from services.reconciler.manifests import (
    InstanceManifest,
    InvalidManifest,
    Manifests,
    SecretRef,
    SyncManifest,
    read_manifests,
)
from services.reconciler.metrics import ReconcilerMetrics
from services.reconciler.schedule import Due, due
from services.reconciler.standalone.settings import StandaloneSettings

logger = logging.getLogger("services.reconciler")

EXIT_CONFIGURATION = 78

Pair = tuple[SyncManifest, InstanceManifest]


class Reconciler:
    """One process: a task for each ClerkSync of the file, begun anew when its manifest changes."""

    def __init__(self, settings: StandaloneSettings) -> None:
        """Opens nothing yet."""
        self._settings = settings
        self._registry = new_registry(service="reconciler")
        self._metrics = ReconcilerMetrics(self._registry)
        self._stop = asyncio.Event()
        self._tasks = Supervisor(self._registry)
        self._led: dict[str, Pair] = {}
        """The syncs that have a task, as their manifests are."""
        self._failures: dict[str, int] = {}
        """Of each sync, in a row."""
        self._forgiven: set[str] = set()
        """Syncs whose Secrets have just changed: what failed before is tried at once."""
        self._reason: str | None = "starting"
        self._complaint: str | None = None
        """About the manifests as they are now: said once, and not at every look."""
        self._text = ""
        folder = settings.failpoints_dir
        self._terms = Terms(
            holder=f"{socket.gethostname()} {getpid()}",
            role_prefix=settings.role_prefix,
            verify_after=settings.verify_after,
            keep_runs=timedelta(days=settings.keep_runs_days),
            allow_fsync_off=settings.allow_fsync_off,
            api_hosts=ApiHosts.parse(settings.api_hosts),
            failpoint=failpoints.in_folder(folder) if folder is not None else failpoints.nowhere,
        )

    async def run(self) -> int:
        """Until SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self._stop.set)
        health = QuietRunner(health_application(registry=self._registry, not_ready=lambda: self._reason))
        await health.setup()
        await web.TCPSite(health, self._settings.health_host, self._settings.health_port).start()
        logger.info("listening", extra={"health_port": health.addresses[0][1]})
        self._tasks.keep("manifests", self._follow_manifests)
        await self._stop.wait()
        await self._tasks.close()
        await health.cleanup()
        return 0

    async def _follow_manifests(self) -> None:
        """Takes the file over whenever it changes; until it is cancelled."""
        while True:
            await self._take_over()
            await asyncio.sleep(self._settings.look_seconds)

    async def _take_over(self) -> None:
        """Reads the file if it changed; what cannot be read leaves the former manifests in place."""
        try:
            text = self._settings.manifests.read_text("utf-8")
            if text == self._text:
                return
            manifests = read_manifests(text)
        except (OSError, UnicodeDecodeError, InvalidManifest) as error:
            if self._complaint != str(error):
                logger.error("manifests not taken over", extra={"why": str(error)})
            self._complaint = str(error)
            self._reason = str(error) if not self._led else None
            return
        await self._begin(manifests)
        self._text, self._reason, self._complaint = text, None, None

    async def _begin(self, manifests: Manifests) -> None:
        wanted = {name: (sync, manifests.instances[sync.instance]) for name, sync in manifests.syncs.items()}
        for name, pair in list(self._led.items()):
            if wanted.get(name) != pair:
                await self._tasks.end(f"sync {name}")
                del self._led[name]
        for name, pair in wanted.items():
            if name not in self._led:
                logger.info("sync taken over", extra={"sync": name})
                self._metrics.known(name)
                self._led[name] = pair
                self._tasks.keep(f"sync {name}", partial(self._keep, *pair))

    async def _keep(self, sync: SyncManifest, of: InstanceManifest) -> None:
        """Leads one sync for as long as its manifest stands; trouble is said and tried again, with growing pauses."""
        while True:
            trouble: Trouble | None = None
            try:
                await self._lead(sync, of)
            except Exception as error:
                trouble = trouble_of(error)
            finally:
                self._metrics.leading.labels(sync.name).set(0)
            if trouble is None:
                self._forgiven.add(sync.name)
                continue
            self._failures[sync.name] = self._failures.get(sync.name, 0) + 1
            if trouble.reason == "InternalError":
                self._metrics.internal_errors.labels(sync.name).inc()
            pause = pause_after(self._failures[sync.name])
            extra = {
                "sync": sync.name,
                "reason": trouble.reason,
                "why": str(trouble),
                "detail": trouble.detail,
                "seconds": round(pause, 1),
            }
            logger.error("sync interrupted", extra=extra)
            await asyncio.sleep(pause)

    async def _lead(self, sync: SyncManifest, of: InstanceManifest) -> None:
        """Returns when a Secret of the sync has changed. Raises `Trouble`."""
        access = self._access(sync, of)
        async with (
            opened(sync, of, access=access, terms=self._terms) as (led, clerk),
            led.pool.acquire() as connection,
        ):
            await self._wait_for_lead(connection, led)
            self._metrics.leading.labels(sync.name).set(1)
            engine = await led.engine(clerk)
            while self._access(sync, of) == access:
                history = await led.history()
                if sync.name in self._forgiven:
                    self._forgiven.discard(sync.name)
                    history = history.forgiven()
                todo = due(led.sync, history)
                if todo is None:
                    self._failures.pop(sync.name, None)
                    await asyncio.sleep(self._settings.look_seconds)
                else:
                    result = await led.run(engine, todo)
                    self._tell(sync, todo, result, waiting=len(await led.waiting()))
            logger.info("secrets changed", extra={"sync": sync.name})

    async def _wait_for_lead(self, connection: Any, led: Led) -> None:
        """Keeps a second process waiting. Should this connection die, the run's epoch fences the former leader.

        Any session of the database can hold the lock, so the log says which one does.
        """
        told = None
        while not await led.try_lead(connection):
            holder = await led.led_by(connection)
            if holder is not None and holder != told:
                told = holder
                extra = {"sync": led.sync.name, "pid": holder.pid, "login": holder.login}
                logger.warning("another session leads this sync", extra=extra)
            await asyncio.sleep(self._settings.look_seconds)

    def _tell(self, sync: SyncManifest, todo: Due, result: SweepResult, *, waiting: int) -> None:
        self._metrics.ended(result, sync=sync.name, waiting=waiting)
        for run in result.runs:
            logger.log(
                logging.INFO if run.state == "completed" else logging.ERROR,
                "run",
                extra={
                    "sync": sync.name,
                    "sweep": run.sweep_id,
                    "run": run.run_id,
                    "kind": run.kind,
                    "mode": run.mode,
                    "reason": todo.reason,
                    "state": run.state,
                    "why": run.message,
                    "counts": run.counts,
                    "requests": run.requests,
                },
            )

    def _access(self, sync: SyncManifest, of: InstanceManifest) -> Access:
        """What the Secrets hold now. Raises `Trouble` where one cannot be read."""
        return Access(
            database_url=self._secret(sync.database),
            state_database_url=self._secret(of.state_database),
            secret_key=self._secret(of.secret_key),
        )

    def _secret(self, ref: SecretRef) -> str:
        path = self._settings.secrets_dir / ref.name / ref.key
        with contextlib.suppress(OSError, UnicodeDecodeError):
            return path.read_text("utf-8").strip()
        raise Trouble("SecretNotFound", f"key {ref.key} of Secret {ref.name} cannot be read: {path}", about="spec")


def main() -> int:
    """Reads the environment and runs; exit code 78 means that the configuration is wrong."""
    signals.take_over()
    try:
        settings = StandaloneSettings.model_validate({})
    except ValidationError as error:
        for problem in error.errors(include_input=False, include_url=False):
            print(f"reconciler: {'.'.join(map(str, problem['loc']))}: {problem['msg']}", file=sys.stderr)
        return EXIT_CONFIGURATION
    logs.configure(level=settings.log_level)

    async def serve() -> int:
        return await Reconciler(settings).run()

    return asyncio.run(serve())


if __name__ == "__main__":
    sys.exit(main())
