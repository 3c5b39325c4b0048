"""Runs the engine by manifests from a file: `python -m services.reconciler.standalone`."""

import asyncio
import logging
import os
import signal
import socket
import sys
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from nexus_auth import failpoints
from nexus_auth.clerk.api_hosts import ApiHosts
from nexus_auth.reconcile.engine import Fenced, Result
from nexus_auth.telemetry import logs
from nexus_auth.telemetry.health import health_application
from services.reconciler.leading import Access, Led, Terms, Trouble, opened
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
TROUBLE_SECONDS = 5.0


class Reconciler:
    """One process: a task for each ClerkSync of the file, begun anew when its manifest changes."""

    def __init__(self, settings: StandaloneSettings) -> None:
        """Opens nothing yet."""
        self._settings = settings
        self._registry = CollectorRegistry()
        self._metrics = ReconcilerMetrics(self._registry)
        self._stop = asyncio.Event()
        self._tasks: dict[str, tuple[object, asyncio.Task[None]]] = {}
        self._reason: str | None = "starting"
        self._complaint: str | None = None
        """About the manifests as they are now: said once, and not at every look."""
        folder = settings.failpoints_dir
        self._terms = Terms(
            holder=f"{socket.gethostname()} {os.getpid()}",
            role_prefix=settings.role_prefix,
            verify_after=settings.verify_after,
            allow_fsync_off=settings.allow_fsync_off,
            api_hosts=ApiHosts.parse(settings.api_hosts),
            failpoint=failpoints.in_folder(folder) if folder is not None else failpoints.nowhere,
        )

    async def run(self) -> int:
        """Until SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self._stop.set)
        health = web.AppRunner(
            health_application(registry=self._registry, not_ready=lambda: self._reason), access_log=None
        )
        await health.setup()
        await web.TCPSite(health, self._settings.health_host, self._settings.health_port).start()
        logger.info("listening", extra={"health_port": health.addresses[0][1]})
        text = ""
        while not self._stop.is_set():
            text = self._take_over(text)
            try:
                async with asyncio.timeout(self._settings.look_seconds):
                    await self._stop.wait()
            except TimeoutError:
                pass
        for _, task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*(task for _, task in self._tasks.values()), return_exceptions=True)
        await health.cleanup()
        return 0

    def _take_over(self, before: str) -> str:
        """Reads the file if it changed; what cannot be read leaves the former manifests in place."""
        try:
            text = self._settings.manifests.read_text("utf-8")
            if text == before:
                return before
            manifests = read_manifests(text)
        except (OSError, InvalidManifest) as error:
            if self._complaint != str(error):
                logger.error("manifests not taken over", extra={"why": str(error)})
            self._complaint = str(error)
            self._reason = str(error) if not self._tasks else None
            return before
        self._begin(manifests)
        self._reason = self._complaint = None
        return text

    def _begin(self, manifests: Manifests) -> None:
        wanted = {name: (sync, manifests.instances[sync.instance]) for name, sync in manifests.syncs.items()}
        for name, (pair, task) in list(self._tasks.items()):
            if wanted.get(name) != pair:
                task.cancel()
                del self._tasks[name]
        for name, pair in wanted.items():
            if name not in self._tasks:
                logger.info("sync taken over", extra={"sync": name})
                self._tasks[name] = (pair, asyncio.create_task(self._keep(*pair)))

    async def _keep(self, sync: SyncManifest, of: InstanceManifest) -> None:
        """Leads one sync for as long as its manifest stands; every trouble is said and tried again."""
        while True:
            try:
                await self._lead(sync, of)
            except Trouble as trouble:
                extra = {"sync": sync.name, "reason": trouble.reason, "why": str(trouble), "detail": trouble.detail}
                logger.error("sync interrupted", extra=extra)
            except (Fenced, OSError) as error:
                logger.error("sync interrupted", extra={"sync": sync.name, "why": str(error)})
            self._metrics.leading.labels(sync.name).set(0)
            await asyncio.sleep(TROUBLE_SECONDS)

    async def _lead(self, sync: SyncManifest, of: InstanceManifest) -> None:
        access = Access(
            database_url=self._secret(sync.database),
            state_database_url=self._secret(of.state_database),
            secret_key=self._secret(of.secret_key),
        )
        async with (
            opened(sync, of, access=access, terms=self._terms) as (led, clerk),
            led.pool.acquire() as connection,
        ):
            await self._wait_for_lead(connection, led)
            self._metrics.leading.labels(sync.name).set(1)
            engine = await led.engine(clerk)
            while True:
                history = await led.history()
                todo = due(led.sync, history)
                if todo is None:
                    await asyncio.sleep(self._settings.look_seconds)
                else:
                    self._tell(sync, todo, await led.run(engine, todo, history))

    async def _wait_for_lead(self, connection: Any, led: Led) -> None:
        """Keeps a second process waiting. Should this connection die, the run's epoch fences the former leader."""
        while True:
            if await led.try_lead(connection):
                return
            await asyncio.sleep(self._settings.look_seconds)

    def _tell(self, sync: SyncManifest, todo: Due, result: Result) -> None:
        self._metrics.ended(result, sync=sync.name, mode=todo.mode)
        level = logging.INFO if result.state == "completed" else logging.ERROR
        extra = {
            "sync": sync.name,
            "run": result.run_id,
            "mode": todo.mode,
            "reason": todo.reason,
            "state": result.state,
        }
        logger.log(
            level, "run", extra={**extra, "why": result.message, "counts": result.counts, "requests": result.requests}
        )

    def _secret(self, ref: SecretRef) -> str:
        return (self._settings.secrets_dir / ref.name / ref.key).read_text("utf-8").strip()


def main() -> int:
    """Reads the environment and runs; exit code 78 means that the configuration is wrong."""
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
