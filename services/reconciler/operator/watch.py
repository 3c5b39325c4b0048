"""kopf in a thread and loop of its own: it watches, and puts keys on a queue. It writes nothing, no finalizer either.

Traded: kopf's own handlers, timers and daemons would bring a finalizer to every object, intervals that no spec can
change, and a loop that our runs would have to share. Should kopf end (a token that was refused twice, a bug), it is
begun anew; what was missed meanwhile, the scheduler's own listing finds.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import kopf

from services.reconciler.manifests import GROUP
from services.reconciler.operator import access
from services.reconciler.operator.cluster import INSTANCES, SYNCS, VERSION
from services.reconciler.operator.metrics import OperatorMetrics

SECRETS = "secrets"
STOP_SECONDS = 2.0
PAUSES = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds before kopf is begun anew."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """Something happened to an object: which one, and what it is now."""

    plural: str
    namespace: str
    name: str
    uid: str
    resource_version: str
    gone: bool


class Watch:
    """One thread. `tell` is called in it, and must be safe to call from there."""

    def __init__(
        self,
        *,
        namespaces: tuple[str, ...],
        tell: Callable[[WatchEvent], None],
        failed: Callable[[], None],
        metrics: OperatorMetrics,
    ) -> None:
        """Starts nothing yet. `failed` is called, in the thread, whenever the watch has to begin anew."""
        self._namespaces = namespaces
        self._tell = tell
        self._failed = failed
        self._metrics = metrics
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self._thread = threading.Thread(target=self._run, name="kopf", daemon=True)

    def start(self) -> None:
        """Begins to watch."""
        self._thread.start()

    def restart(self) -> None:
        """Ends all connections and begins anew: for a watch that says nothing any more."""
        with self._lock:
            if self._running is not None:
                loop, flag = self._running
                loop.call_soon_threadsafe(flag.set)

    async def stop(self) -> None:
        """Ends it; what does not end in time is left to the process's own end."""
        self._ended.set()
        self.restart()
        await asyncio.to_thread(self._thread.join, STOP_SECONDS)

    def _run(self) -> None:
        failures = 0
        while not self._ended.is_set():
            began = time.monotonic()
            failed = False
            try:
                self._run_once()
            except Exception as error:
                failed = True
                logger.warning("watch ended", extra={"why": f"{type(error).__name__}: {error}"})
            if self._ended.is_set():
                return
            self._metrics.watch_restarts.inc()
            failures = failures + 1 if failed and time.monotonic() - began < 60 else 1
            if failed:
                self._failed()
                self._ended.wait(PAUSES[min(failures, len(PAUSES)) - 1])

    def _run_once(self) -> None:
        """Not `asyncio.run`: that waits for every task, and a watch whose token was refused may leave one for ever."""
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(self._watch())
        finally:
            loop.close()

    async def _watch(self) -> None:
        """Until it is to end, or one of kopf's tasks did; raises what ended it."""
        # a flag of this loop: kopf waits for one of another kind in a thread, which outlives its failures
        flag = asyncio.Event()
        with self._lock:
            self._running = asyncio.get_running_loop(), flag
        try:
            if self._ended.is_set():
                return
            tasks = await kopf.spawn_tasks(
                registry=self._registry(),
                settings=_settings(),
                standalone=True,
                clusterwide=not self._namespaces,
                namespaces=self._namespaces,
                stop_flag=flag,
            )
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            with self._lock:
                self._running = None
            await self._end_tasks()
        for task in done:
            task.result()

    async def _end_tasks(self) -> None:
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        if rest:
            await asyncio.wait(rest, timeout=STOP_SECONDS / 2)

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry, id="log-in", errors=kopf.ErrorsMode.PERMANENT)(access.log_in)
        for plural, where in ((INSTANCES, (GROUP, VERSION)), (SYNCS, (GROUP, VERSION)), (SECRETS, ("", "v1"))):
            kopf.on.event(*where, plural, registry=registry, id=plural, param=plural)(self._on_event)
        return registry

    async def _on_event(self, *, type: str, meta: Any, param: Any = None, **_: Any) -> None:
        self._metrics.last_event.labels(param).set_to_current_time()
        self._tell(
            WatchEvent(
                plural=param,
                namespace=str(meta.get("namespace")),
                name=str(meta.get("name")),
                uid=str(meta.get("uid")),
                resource_version=str(meta.get("resourceVersion")),
                gone=type == "DELETED",
            )
        )


def _settings() -> kopf.OperatorSettings:
    """Deadlines for everything; nothing posted, nothing scanned, nothing persisted."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.watching.connect_timeout = 10
    settings.watching.chunk_size = 100
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.networking.error_backoffs = (0.5, 1, 2, 3, 5)
    settings.queueing.worker_limit = 20
    settings.queueing.idle_timeout = 1.0
    settings.queueing.exit_timeout = 0.5
    settings.process.ultimate_exiting_timeout = None
    return settings
