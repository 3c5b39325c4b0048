"""kopf in a thread and an event loop of its own. It watches and reports keys of changed objects; it writes nothing.

Traded: kopf's handlers, timers and daemons would put a finalizer on every object, use intervals that no spec can
change, and share their loop with our runs. When kopf ends (its token was refused twice, a bug), it is started again.
The scheduler lists all objects then, and finds what the watch missed.

Of Secrets, only those with the label are watched: the API server selects them.
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
from services.reconciler.operator.cluster import INSTANCES, READABLE_SELECTOR, SYNCS, VERSION
from services.reconciler.operator.metrics import OperatorMetrics

SECRETS = "secrets"
STOP_SECONDS = 2.0
PAUSES = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds before kopf is started again, by the number of failures in a row."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """An object changed: which one, at which version, and whether it is gone."""

    plural: str
    namespace: str
    name: str
    uid: str
    resource_version: str
    gone: bool


class Watch:
    """`on_event` and `on_failure` are called in the event loop of whoever awaits `run`."""

    def __init__(
        self,
        *,
        namespaces: tuple[str, ...],
        with_secrets: bool,
        on_event: Callable[[WatchEvent], None],
        on_failure: Callable[[], None],
        metrics: OperatorMetrics,
    ) -> None:
        """Starts nothing yet. `on_failure` is called whenever the watch has to start again."""
        self._namespaces = namespaces
        self._with_secrets = with_secrets
        self._on_change = on_event
        self._on_failure = on_failure
        self._metrics = metrics
        self._owner: asyncio.AbstractEventLoop | None = None
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    async def run(self) -> None:
        """Watches until it is cancelled. Raises what ended the thread, whatever that was."""
        self._owner = asyncio.get_running_loop()
        self._stopping = stopping = threading.Event()
        ended: asyncio.Future[None] = self._owner.create_future()
        thread = threading.Thread(target=self._run, args=(stopping, ended), name="kopf", daemon=True)
        thread.start()
        try:
            await ended
        finally:
            stopping.set()
            self.restart()
            await asyncio.to_thread(thread.join, STOP_SECONDS)

    def restart(self) -> None:
        """Closes all connections and starts again: for a watch that went silent."""
        with self._lock:
            if self._running is not None:
                loop, flag = self._running
                loop.call_soon_threadsafe(flag.set)

    def _run(self, stopping: threading.Event, ended: "asyncio.Future[None]") -> None:
        """The thread. However it ends, whoever awaits `run` gets to know."""
        error: BaseException | None = None
        try:
            self._keep_watching(stopping)
        except BaseException as raised:
            error = raised
        self._call(_settle, ended, error)

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        """In the owner's loop; where that is closed, the process ends anyway."""
        if self._owner is not None and not self._owner.is_closed():
            self._owner.call_soon_threadsafe(function, *arguments)

    def _keep_watching(self, stopping: threading.Event) -> None:
        failures = 0
        while not stopping.is_set():
            began = time.monotonic()
            failed = False
            try:
                self._run_once(stopping)
            except Exception as error:
                failed = True
                logger.warning("watch ended", extra={"why": f"{type(error).__name__}: {error}"})
            if stopping.is_set():
                return
            self._metrics.watch_restarts.inc()
            failures = failures + 1 if failed and time.monotonic() - began < 60 else 1
            if failed:
                self._call(self._on_failure)
                stopping.wait(PAUSES[min(failures, len(PAUSES)) - 1])

    def _run_once(self, stopping: threading.Event) -> None:
        """Not `asyncio.run`: it waits for every task, and kopf leaves one that never ends where its token was
        refused."""
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(self._watch(stopping))
        finally:
            loop.close()

    async def _watch(self, stopping: threading.Event) -> None:
        """Until it should stop, or one of kopf's tasks ended; raises what ended that task."""
        # an asyncio.Event of this loop: for any other kind kopf waits in a thread, which outlives its failures
        flag = asyncio.Event()
        with self._lock:
            self._running = asyncio.get_running_loop(), flag
        try:
            if stopping.is_set():
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
        watched = [(INSTANCES, (GROUP, VERSION)), (SYNCS, (GROUP, VERSION))]
        if self._with_secrets:
            watched.append((SECRETS, ("", "v1")))
        for plural, where in watched:
            kopf.on.event(*where, plural, registry=registry, id=plural, param=plural)(self._on_event)
        return registry

    async def _on_event(self, *, type: str, meta: Any, param: Any = None, **_: Any) -> None:
        self._metrics.last_event.labels(param).set_to_current_time()
        event = WatchEvent(
            plural=param,
            namespace=str(meta.get("namespace")),
            name=str(meta.get("name")),
            uid=str(meta.get("uid")),
            resource_version=str(meta.get("resourceVersion")),
            gone=type == "DELETED",  # for a Secret also: the label was taken away
        )
        self._call(self._on_change, event)


def _settle(ended: "asyncio.Future[None]", error: BaseException | None) -> None:
    if ended.done():
        return
    if error is None:
        ended.set_result(None)
    else:
        ended.set_exception(RuntimeError(f"the watch's thread ended: {type(error).__name__}: {error}"))


def _settings() -> kopf.OperatorSettings:
    """Deadlines for every request; no Events, no scan for new kinds, nothing stored in objects."""
    settings = kopf.OperatorSettings()
    settings.watching.label_selectors["", "v1", SECRETS] = READABLE_SELECTOR
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
