"""Runs the operator: `python -m services.reconciler.operator`. The only place where its rooms are put together."""

import asyncio
import logging
import os
import secrets
import signal
import socket
import sys
from importlib.metadata import version

from aiohttp import web
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from nexus_auth import failpoints
from nexus_auth.telemetry import logs
from nexus_auth.telemetry.health import health_application
from services.reconciler.leading import Terms
from services.reconciler.operator import access
from services.reconciler.operator.cluster import Cluster
from services.reconciler.operator.lease import AnotherRelease, Lease
from services.reconciler.operator.metrics import OperatorMetrics
from services.reconciler.operator.scheduler import Scheduler
from services.reconciler.operator.settings import OperatorSettings
from services.reconciler.operator.watch import WatchEvent, Watch

logger = logging.getLogger("services.reconciler.operator")

EXIT_CONFIGURATION = 78
SWITCH_SECONDS = 0.0005
"""A thread that wants to run waits so long for one that computes. With Python's 5 ms, every request of ours would wait
that long, several times, while kopf works through a listing."""


class NotConfigured(Exception):
    """What is missing."""


class Operator:
    """One process: a candidate, and while it leads, a scheduler and a watch."""

    def __init__(self, settings: OperatorSettings) -> None:
        """Asks nothing yet."""
        self._settings = settings
        self._registry = CollectorRegistry()
        self._metrics = OperatorMetrics(self._registry, version=version("nexus-auth"))
        self._stop = asyncio.Event()
        self._identity = f"{socket.gethostname()}_{os.getpid()}_{secrets.token_hex(4)}"
        self._scheduler: Scheduler | None = None

    async def run(self) -> int:
        """Until SIGTERM or SIGINT. Raises `AnotherRelease`, `NotConfigured`, `access.NoAccess`."""
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self._stop.set)
        settings = self._settings
        namespace = settings.lease_namespace or access.own_namespace()
        if namespace is None:
            raise NotConfigured("NEXUS_AUTH_LEASE_NAMESPACE is not set, and this is no pod")
        health = web.AppRunner(health_application(registry=self._registry, not_ready=self._not_ready), access_log=None)
        await health.setup()
        await web.TCPSite(health, settings.health_host, settings.health_port).start()
        logger.info("listening", extra={"health_port": health.addresses[0][1]})
        cluster = Cluster(await access.configuration(), namespaces=settings.namespaces, metrics=self._metrics)
        try:
            lease = Lease(
                cluster,
                namespace=namespace,
                name=settings.lease_name,
                identity=self._identity,
                seconds=settings.lease_seconds,
                controller_class=settings.controller_class,
            )
            await self._campaign(cluster, lease)
        finally:
            await cluster.close()
            await health.cleanup()
        return 0

    async def _campaign(self, cluster: Cluster, lease: Lease) -> None:
        """Leads again and again, until this process should end."""
        stopping = asyncio.create_task(self._stop.wait())
        try:
            while not self._stop.is_set():
                term = asyncio.create_task(self._one_term(cluster, lease))
                await asyncio.wait({term, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if not term.done():
                    term.cancel()
                try:
                    await term
                except asyncio.CancelledError:
                    if not self._stop.is_set():
                        raise
        finally:
            stopping.cancel()

    async def _one_term(self, cluster: Cluster, lease: Lease) -> None:
        async with lease.held() as lost:
            self._metrics.leader.set(1)
            logger.info("leading", extra={"identity": self._identity})
            try:
                await self._lead(cluster, lease, lost)
            finally:
                self._metrics.leader.set(0)
                self._scheduler = None

    async def _lead(self, cluster: Cluster, lease: Lease, lost: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()

        def tell(event: WatchEvent) -> None:
            loop.call_soon_threadsafe(scheduler.put, event)

        def failed() -> None:
            loop.call_soon_threadsafe(scheduler.relist)

        watch = Watch(namespaces=cluster.namespaces, tell=tell, failed=failed, metrics=self._metrics)
        scheduler = self._scheduler = self._new_scheduler(cluster, lease, watch)
        running = asyncio.create_task(scheduler.run())
        losing = asyncio.create_task(lost.wait())
        watch.start()
        try:
            await asyncio.wait({running, losing}, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
        finally:
            losing.cancel()
            running.cancel()
            await asyncio.gather(running, watch.stop(), return_exceptions=True)

    def _new_scheduler(self, cluster: Cluster, lease: Lease, watch: Watch) -> Scheduler:
        settings = self._settings
        folder = settings.failpoints_dir
        terms = Terms(
            holder=self._identity,
            role_prefix=settings.role_prefix,
            verify_after=settings.verify_after,
            allow_fsync_off=settings.allow_fsync_off,
            failpoint=failpoints.in_folder(folder) if folder is not None else failpoints.nowhere,
            may_go_on=lease.check,
        )
        return Scheduler(
            cluster,
            terms=terms,
            metrics=self._metrics,
            identity=self._identity,
            controller_class=settings.controller_class,
            concurrency=settings.concurrency,
            look_seconds=settings.look_seconds,
            relist_seconds=settings.relist_seconds,
            restart_watch=watch.restart,
        )

    def _not_ready(self) -> str | None:
        """A candidate that waits for its turn is ready: it is all that it can be."""
        return self._scheduler.list_error if self._scheduler is not None else None


def main() -> int:
    """Reads the environment and runs; exit code 78 means that the configuration is wrong."""
    try:
        settings = OperatorSettings.model_validate({})
    except ValidationError as error:
        for problem in error.errors(include_input=False, include_url=False):
            print(f"operator: {'.'.join(map(str, problem['loc']))}: {problem['msg']}", file=sys.stderr)
        return EXIT_CONFIGURATION
    logs.configure(level=settings.log_level)
    sys.setswitchinterval(SWITCH_SECONDS)
    for name in ("kopf", "kopf.objects", "kopf.activities"):
        logging.getLogger(name).setLevel(logging.WARNING)

    async def serve() -> int:
        return await Operator(settings).run()

    try:
        return asyncio.run(serve())
    except (AnotherRelease, NotConfigured, access.NoAccess) as error:
        print(f"operator: {error}", file=sys.stderr)
        return EXIT_CONFIGURATION


if __name__ == "__main__":
    sys.exit(main())
