"""Wires the webhook service together and runs it: `python -m services.webhook`."""

import asyncio
import gc
import logging
import signal
import sys
from contextlib import suppress
from functools import partial
from typing import Any

import asyncpg
import uvloop
from aiohttp import web
from pydantic import ValidationError

from nexus_auth import failpoints, signals
from nexus_auth.clerk.api import ClerkApi, ClerkRefused, ClerkUnavailable
from nexus_auth.store import instance
from nexus_auth.store.borrowing import borrowed
from nexus_auth.store.failure import explain, lock_holders
from nexus_auth.store.ingest import Batch, GroupCommit
from nexus_auth.store.pool import UnsafeDatabase, move_pool, open_pool, refuse_unsafe
from nexus_auth.tasks import Supervisor
from nexus_auth.telemetry import logs
from nexus_auth.telemetry.health import health_application
from nexus_auth.telemetry.http import QuietRunner
from nexus_auth.telemetry.metrics import new_registry
from services.webhook import upkeep
from services.webhook.app import Gate, Receiver
from services.webhook.metrics import WebhookMetrics
from services.webhook.settings import WebhookSettings
from services.webhook.verification import Secrets
from services.webhook.verifier import LOOK_SECONDS, HeldVerifier

logger = logging.getLogger("services.webhook")

EXIT_CONFIGURATION = 78
"""EX_CONFIG of sysexits: starting again will not help."""

CONNECT_AGAIN_SECONDS = 1.0
OPEN_SECONDS = 30.0
REQUEST_SWEEP_SECONDS = 10.0
LOCK_HOLDERS_SECONDS = 10.0
"""What a database that stands still may cost at most."""
SPARE_CONNECTIONS = 3
"""Beside the lanes' own: for housekeeping, held deletions, the request of a sweep. A changed address is tried on one
more."""

APPLICATION = "nexus-auth webhook"


class Service:
    """One process: its ports, its pool, its lanes."""

    def __init__(self, settings: WebhookSettings) -> None:
        """Reads the secrets; opens nothing yet. Raises ValueError where there is none."""
        self._settings = settings
        self._registry = new_registry(service="webhook")
        self._metrics = WebhookMetrics(self._registry)
        self._supervisor = Supervisor(self._registry)
        self._storing = logs.OnChange(logger, over="events are stored again")
        fixed = settings.signing_secret.get_secret_value() if settings.signing_secret else ""
        self._secrets = Secrets(fixed=fixed, folder=settings.webhook_secrets_dir)
        self._metrics.show_secrets(self._secrets.webhooks)
        self._gate = Gate()
        folder = settings.failpoints_dir
        self._failpoint = failpoints.in_folder(folder) if folder is not None else failpoints.nowhere
        self._receiver = Receiver(
            settings,
            secrets=self._secrets,
            gate=self._gate,
            metrics=self._metrics,
            after_outage=self._request_sweep,
            failpoint=self._failpoint,
        )
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._address = ""
        self._stop = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        """Looks who holds locks; ends by itself."""
        self._wrong: str | None = None
        """What starting again will not mend."""

    async def run(self) -> int:
        """Serves until SIGTERM or SIGINT, then drains; answers the exit code."""
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self._stop.set)
        health = QuietRunner(health_application(registry=self._registry, not_ready=self._not_ready))
        public = QuietRunner(
            self._receiver.application(),
            auto_decompress=False,  # the signature is over the bytes that came
            shutdown_timeout=self._settings.drain_timeout,
        )
        await health.setup()
        await web.TCPSite(health, self._settings.health_host, self._settings.health_port).start()
        await public.setup()
        site = web.TCPSite(public, self._settings.host, self._settings.port, backlog=1024)
        await site.start()
        logger.info("listening", extra={"port": _port(public), "health_port": _port(health)})
        self._keep(upkeep.watch_secrets(self._secrets, metrics=self._metrics))
        self._supervisor.keep("connect", self._connect)
        await self._stop.wait()
        await self._drain(site, public)
        await health.cleanup()
        if self._wrong is not None:
            logger.error(self._wrong)
            return EXIT_CONFIGURATION
        return 0

    def _keep(self, chore: upkeep.Chore) -> None:
        self._supervisor.keep(chore.name, partial(upkeep.repeat, chore))

    async def _drain(self, site: web.TCPSite, public: web.AppRunner) -> None:
        logger.info("draining", extra={"waiting": self._gate.commit.waiting if self._gate.commit else 0})
        self._gate.draining = True
        self._gate.closed_because = "shutting down"
        await site.stop()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain_timeout):
                if self._gate.commit is not None:
                    await self._gate.commit.close()
                await public.cleanup()
        await self._supervisor.close()
        if self._pool is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(2):
                    await self._pool.close()
        logger.info("stopped")

    def _not_ready(self) -> str | None:
        # Not the database: without a ready pod nobody is left to answer 503.
        return self._gate.closed_because

    async def _connect(self) -> None:
        """Opens the gate once the database is reached, safe and claimed; stops the process for what cannot mend."""
        while self._gate.commit is None:
            try:
                await self._open_gate()
            except (UnsafeDatabase, instance.WrongInstance, ClerkRefused, ValueError) as error:
                self._wrong = str(error)
                self._stop.set()
                break
            except ClerkUnavailable as error:
                reason = f"the Clerk instance is not known yet: {error}"
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:  # TimeoutError is an OSError
                reason = str(explain(error, role=self._role))
            else:
                logger.info("ready", extra={"instance_id": self._gate.instance_id})
                break
            if reason != self._gate.closed_because:
                logger.warning(reason)
            self._gate.closed_because = reason
            await asyncio.sleep(CONNECT_AGAIN_SECONDS)
        await asyncio.Event().wait()

    async def _open_gate(self) -> None:
        settings = self._settings
        address = settings.read_database_url()
        if self._pool is not None and address != self._address:
            self._pool.terminate()
            self._pool = None
        if self._pool is None:
            self._address = address
            self._pool = await self._open_pool(address, size=settings.lanes + SPARE_CONNECTIONS)
        async with borrowed(self._pool, seconds=OPEN_SECONDS) as connection:
            await self._refuse_unsafe(connection)
            instance_id = await self._instance_id()
            await instance.claim(connection, instance_id)
        commit = GroupCommit(
            self._pool,
            lanes=settings.lanes,
            batch_rows=settings.batch_rows,
            queue_rows=settings.queue_rows,
            transaction_seconds=settings.answer_within + 1,
            observe=self._observe,
            failpoint=self._failpoint,
        )
        commit.start(self._supervisor)
        self._metrics.queued.set_function(lambda: commit.waiting)
        self._gate.instance_id, self._gate.commit, self._gate.closed_because = instance_id, commit, None
        for chore in upkeep.chores(self._pool, metrics=self._metrics, database_answers=self._receiver.database_answers):
            self._keep(chore)
        verifier = HeldVerifier(self._pool, settings=settings, instance_id=instance_id)
        self._keep(upkeep.Chore("verify held deletions", verifier.look, LOOK_SECONDS))
        if settings.database_url_file is not None:
            move = partial(self._move, self._pool)
            self._keep(upkeep.follow_address(settings.read_database_url, address=address, move=move))
        gc.freeze()

    async def _open_pool(self, address: str, *, size: int) -> "asyncpg.Pool[asyncpg.Record]":
        return await open_pool(
            address,
            role=self._role,
            application=APPLICATION,
            size=size,
            statement_seconds=self._settings.answer_within,
        )

    async def _refuse_unsafe(self, connection: Any) -> None:
        await refuse_unsafe(
            connection,
            role_prefix=self._settings.role_prefix,
            service="webhook",
            allow_fsync_off=self._settings.allow_fsync_off,
        )

    @property
    def _role(self) -> str:
        return self._settings.role_prefix + "webhook"

    async def _move(self, pool: "asyncpg.Pool[asyncpg.Record]", address: str) -> None:
        """Takes another address over, after one connection has shown that it is as good. Raises what that says."""
        trial = await self._open_pool(address, size=1)
        try:
            async with trial.acquire() as connection:
                await self._refuse_unsafe(connection)
                await instance.claim(connection, self._gate.instance_id or "")
        finally:
            trial.terminate()
        await move_pool(
            pool,
            address,
            role=self._role,
            application=APPLICATION,
            statement_seconds=self._settings.answer_within,
        )

    async def _instance_id(self) -> str:
        """The configured instance, checked against the API key where there is one and Clerk answers."""
        configured, key = self._settings.clerk_instance_id, self._settings.read_clerk_secret_key()
        if key is None:
            return configured or ""  # the settings require one of the two
        try:
            async with ClerkApi(self._settings.clerk_api_url, secret_key=key) as clerk:
                answered = await clerk.instance_id()
        except ClerkUnavailable:
            if configured is None:
                raise
            return configured
        if configured not in (None, answered):
            raise instance.WrongInstance(f"CLERK_SECRET_KEY belongs to {answered}, CLERK_INSTANCE_ID says {configured}")
        return answered

    def _observe(self, batch: Batch) -> None:
        self._metrics.batch_seconds.observe(batch.seconds)
        self._metrics.batch_rows.observe(batch.rows)
        self._metrics.database_up.set(1 if batch.failure is None else 0)
        if batch.failure is None:
            self._storing.fine()
            return
        self._metrics.batch_failures.inc()
        failure = batch.failure
        said = self._storing.trouble(f"events are not stored, and answered with 503: {failure}", kind=failure.kind)
        if said and failure.kind in ("locked", "timeout"):
            self._looking = asyncio.create_task(self._tell_lock_holders())

    async def _tell_lock_holders(self) -> None:
        if self._pool is None:
            return
        try:
            async with borrowed(self._pool, seconds=LOCK_HOLDERS_SECONDS) as connection:
                holders = await lock_holders(connection)
        except Exception as error:
            logger.warning("who holds locks is not known", extra={"why": str(explain(error))})
            return
        if holders:
            logger.error("locks are held on tables of ours", extra={"by": "; ".join(map(str, holders[:10]))})

    async def _request_sweep(self) -> None:
        if self._pool is not None:
            async with borrowed(self._pool, seconds=REQUEST_SWEEP_SECONDS) as connection:
                await instance.request_sweep(connection)


def _port(runner: web.AppRunner) -> int:
    """The port that a runner got; the one asked for, unless that was 0."""
    port: int = runner.addresses[0][1]
    return port


def main() -> int:
    """Reads the environment and serves; exit code 78 means that the configuration is wrong."""
    signals.take_over()
    try:
        settings = WebhookSettings.model_validate({})
        logs.configure(level=settings.log_level)
    except OSError as error:
        print(f"webhook: {error}", file=sys.stderr)
        return EXIT_CONFIGURATION
    except ValidationError as error:
        for problem in error.errors(include_input=False, include_url=False):
            where = ".".join(str(part) for part in problem["loc"]) or "settings"
            print(f"webhook: {where}: {problem['msg']}", file=sys.stderr)
        return EXIT_CONFIGURATION

    async def serve() -> int:
        return await Service(settings).run()

    try:
        return uvloop.run(serve())
    except (ValueError, OSError) as error:
        print(f"webhook: {error}", file=sys.stderr)
        return EXIT_CONFIGURATION


if __name__ == "__main__":
    sys.exit(main())
