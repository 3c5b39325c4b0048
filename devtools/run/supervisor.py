"""One run: starts the parts beside each other, waits until each is ready, watches them until somebody ends it.

Postgres and the emulator are not started again when they die: a restart would hide the reason, and the emulator's
undelivered events would be gone. Their end is named, and ends the run.
"""

import asyncio
import signal
import time
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from devtools.postgres import SERVICES, Database
from devtools.run import said
from devtools.run.clerk import Clerk, ClerkFacts
from devtools.run.database import RunDatabase
from devtools.run.folder import Keys, RunFolder
from devtools.run.greeting import greeting
from devtools.run.live import keep_live
from devtools.run.output import Output
from devtools.run.parts import PartFailed
from devtools.run.reconciler import SYNC, Reconciler, forget
from devtools.run.webhook import Webhook

DRAIN_SECONDS = 5
"""What the webhook service gets for its last events; on a laptop nobody waits longer for a prompt."""

T = TypeVar("T")
U = TypeVar("U")


class Supervisor:
    """Runs the parts that it is given."""

    def __init__(
        self,
        *,
        clerk: Clerk,
        database: RunDatabase,
        webhook: Webhook,
        reconciler: Reconciler,
        folder: RunFolder,
        keys: Keys,
        output: Output,
    ) -> None:
        """`folder` is claimed already."""
        self._clerk = clerk
        self._database = database
        self._webhook = webhook
        self._reconciler = reconciler
        self._folder = folder
        self._keys = keys
        self._output = output

    async def run(self, stop: asyncio.Event, *, began: float) -> int:
        """Answers the exit code: 0 when it was asked to end by `stop` or a signal, 1 when a part failed.

        `began` is the `time.monotonic()` from which the start is measured. Raises `Unusable`.
        """
        catch_signals(stop)
        serving = asyncio.create_task(self._serve(began=began))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not stop.is_set():
                serving.result()
        except PartFailed as failure:
            for pieces in said.failure_lines(failure, then="this run ends"):
                self._output.line(*pieces)
            return 1
        finally:
            stopping.cancel()
            serving.cancel()
            await self._end(serving)
        return 0

    async def _serve(self, *, began: float) -> None:
        await self._webhook.warm_up()
        clerk, database = await together(self._clerk.start(), self._start_database())
        self._webhook.begin(self._webhook_environment(clerk, database))
        await self._webhook.until_ready()
        await self._reconciler.warm_up()
        self._reconciler.begin(self._reconciler.prepare(self._folder.reconciler, clerk=clerk, database=database))
        self._folder.write_env(self._variables(clerk, database))
        for pieces in greeting(
            clerk,
            database=database,
            webhook=self._webhook,
            reconciler=self._reconciler,
            folder=self._folder,
            seconds=time.monotonic() - began,
        ):
            self._output.line(*pieces)
        await together(
            together(self._webhook.keep(), self._reconciler.keep()),
            together(
                together(self._reconciler.tell(database), keep_live(self._output, clerk=clerk, database=database)),
                together(self._clerk.watch(), self._database.watch(self._postgres_said)),
            ),
        )

    async def _start_database(self) -> Database:
        await self._database.start()
        return await self._database.prepare(await self._clerk.database_name())

    async def _end(self, serving: "asyncio.Task[None]") -> None:
        """Who asks and who sends go first, then who receives, then where it is written."""
        self._folder.remove_env()
        with suppress(asyncio.CancelledError, Exception):
            await serving
        await self._reconciler.stop()
        forget(self._folder.reconciler)
        await self._clerk.stop()
        await self._webhook.stop()
        await self._database.stop()

    def _webhook_environment(self, clerk: ClerkFacts, database: Database) -> Mapping[str, str]:
        return {
            "DATABASE_URL": database.url("webhook"),
            "CLERK_API_URL": clerk.api_url,
            "CLERK_SECRET_KEY": clerk.secret_key,
            "CLERK_INSTANCE_ID": clerk.instance_id,
            "NEXUS_AUTH_WITHHOLD_KEY_FILE": str(self._keys.withhold_key_file.resolve()),
            "NEXUS_AUTH_DRAIN_TIMEOUT": str(DRAIN_SECONDS),
            **self._clerk.webhook_secrets(),
        }

    def _variables(self, clerk: ClerkFacts, database: Database) -> Mapping[str, str]:
        return {
            "WEBHOOK_URL": self._webhook.url,
            "WEBHOOK_SECRETS": clerk.signing_secrets,
            "CLERK_API_URL": clerk.api_url,
            "CLERK_SECRET_KEY": clerk.secret_key,
            "CLERK_INSTANCE_ID": clerk.instance_id,
            **({"EMULATOR_URL": clerk.page_url} if clerk.page_url else {}),
            **{f"{service.upper()}_DATABASE_URL": database.url(service) for service in (*SERVICES, "app")},
            "ADMIN_DATABASE_URL": database.admin_url,
            "METRICS_URLS": f"{self._webhook.metrics_url} {self._reconciler.metrics_url}",
            "NEXUS_AUTH_SYNC": SYNC,
            "RECONCILER_MANIFESTS": str((self._folder.reconciler / "manifests.yaml").resolve()),
            "NEXUS_AUTH_WITHHOLD_KEY": self._keys.withhold_key,
        }

    def _postgres_said(self, line: str) -> None:
        if complaint := said.postgres_complaint(line):
            level, text = complaint
            for pieces in said.part_lines("postgres", text, level=level):
                self._output.line(*pieces)


def catch_signals(stop: asyncio.Event) -> None:
    """Ctrl-C, a polite kill and a terminal that closes all mean the same."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup means it
        loop.add_signal_handler(signal.SIGHUP, stop.set)


async def together(first: Coroutine[Any, Any, T], second: Coroutine[Any, Any, U]) -> tuple[T, U]:
    """Both at once; the first error ends the other one and is raised as it is."""
    tasks = (asyncio.create_task(first), asyncio.create_task(second))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            if task.done():
                task.result()
        return tasks[0].result(), tasks[1].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
