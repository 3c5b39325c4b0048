"""Runs the operator: `python -m services.reconciler.operator`. The only place that wires its parts together."""

import asyncio
import logging
import os
import secrets
import signal
import socket
import sys

from aiohttp import web
from pydantic import ValidationError

from nexus_auth import failpoints, signals
from nexus_auth.clerk.api_hosts import ApiHosts
from nexus_auth.tasks import Supervisor
from nexus_auth.telemetry import logs
from nexus_auth.telemetry.health import health_application
from nexus_auth.telemetry.http import QuietRunner
from nexus_auth.telemetry.metrics import new_registry
from services.reconciler.leading import Terms
from services.reconciler.operator import access
from services.reconciler.operator.cluster import Cluster
from services.reconciler.operator.lease import AnotherRelease, Lease
from services.reconciler.operator.metrics import OperatorMetrics
from services.reconciler.operator.scheduler import Scheduler
from services.reconciler.operator.settings import OperatorSettings
from services.reconciler.operator.watch import Watch

logger = logging.getLogger("services.reconciler.operator")

EXIT_CONFIGURATION = 78
SWITCH_SECONDS = 0.0005
"""How long a thread that wants to run waits for one that computes. With Python's default of 5 ms, each of our requests
would wait that long several times while kopf works through a listing."""


class NotConfigured(Exception):
    """A setting is missing; the text says which."""


class Operator:
    """One process: a candidate for the Lease. While it leads, it runs a scheduler and a watch."""

    def __init__(self, settings: OperatorSettings) -> None:
        """Asks nothing yet."""
        self._settings = settings
        self._registry = new_registry(service="operator")
        self._metrics = OperatorMetrics(self._registry)
        self._supervisor = Supervisor(self._registry)
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
        health = QuietRunner(health_application(registry=self._registry, not_ready=self._not_ready))
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
            await self._supervisor.close()
            await cluster.close()
            await health.cleanup()
        return 0

    async def _campaign(self, cluster: Cluster, lease: Lease) -> None:
        """Waits for the Lease and leads, again and again, until the process should stop."""
        stopping = asyncio.create_task(self._stop.wait(), name="stop signal")
        try:
            while not self._stop.is_set():
                term = asyncio.create_task(self._one_term(cluster, lease), name="term")
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
        async with lease.held(self._supervisor) as lost:
            self._metrics.leader.set(1)
            logger.info("leading", extra={"identity": self._identity})
            try:
                await self._lead(cluster, lease, lost)
            finally:
                self._metrics.leader.set(0)
                self._scheduler = None

    async def _lead(self, cluster: Cluster, lease: Lease, lost: asyncio.Event) -> None:
        """Until the Lease is lost. The supervisor starts the scheduler and the watch again, should one of them end."""
        scheduler = self._scheduler = self._new_scheduler(cluster, lease)
        watch = Watch(
            namespaces=cluster.namespaces,
            with_secrets=not self._settings.secret_names,
            on_event=scheduler.put,
            on_failure=scheduler.relist,
            metrics=self._metrics,
        )
        scheduler.restart_watch = watch.restart
        self._supervisor.keep("scheduler", scheduler.run)
        self._supervisor.keep("watch", watch.run)
        try:
            await lost.wait()
        finally:
            await asyncio.gather(self._supervisor.end("scheduler"), self._supervisor.end("watch"))

    def _new_scheduler(self, cluster: Cluster, lease: Lease) -> Scheduler:
        settings = self._settings
        folder = settings.failpoints_dir
        terms = Terms(
            holder=self._identity,
            role_prefix=settings.role_prefix,
            verify_after=settings.verify_after,
            allow_fsync_off=settings.allow_fsync_off,
            api_hosts=ApiHosts.parse(settings.api_hosts),
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
            secrets_are_watched=not settings.secret_names,
        )

    def _not_ready(self) -> str | None:
        """Why the process is not ready. A candidate that waits for the Lease is ready."""
        return self._scheduler.list_error if self._scheduler is not None else None


def main() -> int:
    """Reads the environment and runs. Exit code 78: the configuration is wrong, and starting again will not help."""
    signals.take_over()
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
