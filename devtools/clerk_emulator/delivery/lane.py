"""The way to one endpoint: a queue, a bounded number of senders, retries and the faults of single messages."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from devtools.clerk_emulator.behaviour import Behaviour
from devtools.clerk_emulator.delivery import signing
from devtools.clerk_emulator.delivery.endpoints import Endpoint, new_secret
from devtools.clerk_emulator.delivery.faults import Fault, FaultKind, Faults
from devtools.clerk_emulator.delivery.messages import Attempt, Delivery, Fate, Message, Trigger, now_ms
from devtools.clerk_emulator.delivery.outstanding import Outstanding
from devtools.clerk_emulator.delivery.schedule import next_delay
from devtools.clerk_emulator.delivery.transport import AT_ONCE_SECONDS, Outcome, Transport

#: Signs what must not verify.
WRONG_SECRET = new_secret(seed=-1, number=0)


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """A message that is to be sent once, or until it is taken."""

    message: Message
    delivery: Delivery
    trigger: Trigger = "schedule"


class Lane:
    """Sends messages to one endpoint."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        transport: Transport,
        faults: Faults,
        behaviour: Callable[[], Behaviour],
        gate: asyncio.Event,
        outstanding: Outstanding,
        finished: Callable[[Message], None],
    ) -> None:
        """Stand ready.

        ``gate`` is closed while delivery pauses; ``outstanding`` counts what is not finished; ``finished`` is told of
        a message for which nothing is left to do.
        """
        self.endpoint = endpoint
        self._transport = transport
        self._faults = faults
        self._behaviour = behaviour
        self._gate = gate
        self._outstanding = outstanding
        self._finished = finished
        self._ready: deque[Task] = deque()
        self._held: list[Task] = []
        self._release: asyncio.TimerHandle | None = None
        self._waiting: dict[Task, asyncio.TimerHandle] = {}
        self._senders: set[asyncio.Task[None]] = set()

    def submit(self, message: Message, delivery: Delivery) -> None:
        """Send a new message, as far as the faults in force let it pass."""
        if not self.endpoint.enabled:
            delivery.fate = "disabled"
            return
        if self._fault("lose", message, delivery):
            delivery.fate = "lost"
            return
        if fault := self._fault("duplicate", message, delivery):
            for _ in range(fault.copies):
                self._open(Task(message, delivery, "duplicate"), after=fault.seconds)
        task = Task(message, delivery)
        if fault := self._fault("delay", message, delivery):
            self._open(task, after=fault.seconds)
        elif fault := self._fault("reorder", message, delivery):
            self._hold(task, fault=fault)
        else:
            self._open(task)

    def resend(self, message: Message, delivery: Delivery) -> None:
        """Send a message once more by hand; its id stays the same, and a failure is not tried again."""
        self._open(Task(message, delivery, "resend"))

    def abandon(self) -> None:
        """Drop what waits: the endpoint is gone or disabled. Requests in flight are finished."""
        for timer in self._waiting.values():
            timer.cancel()
        dropped = [*self._ready, *self._held, *self._waiting]
        self._ready.clear()
        self._held.clear()
        self._waiting.clear()
        for task in dropped:
            self._end(task, fate="disabled")

    async def close(self) -> None:
        """Give up everything at once."""
        self.abandon()
        if self._release:
            self._release.cancel()
        for sender in self._senders:
            sender.cancel()
        await asyncio.gather(*self._senders, return_exceptions=True)

    def _fault(self, kind: FaultKind, message: Message, delivery: Delivery) -> Fault | None:
        fault = self._faults.take(kind, event_type=message.type, endpoint_id=self.endpoint.id)
        if fault:
            delivery.faults.append(fault.kind)
        return fault

    def _open(self, task: Task, *, after: float = 0.0) -> None:
        task.message.open_tasks += 1
        self._outstanding.opened()
        self._queue(task, after=after)

    def _queue(self, task: Task, *, after: float) -> None:
        if after > 0:
            task.delivery.next_attempt_ms = now_ms() + int(after * 1000)
            self._waiting[task] = asyncio.get_running_loop().call_later(after, self._due, task)
            return
        self._ready.append(task)
        if len(self._senders) < self._behaviour().concurrency:
            sender = asyncio.create_task(self._send())
            self._senders.add(sender)
            sender.add_done_callback(self._senders.discard)

    def _due(self, task: Task) -> None:
        del self._waiting[task]
        self._queue(task, after=0)

    def _hold(self, task: Task, *, fault: Fault) -> None:
        task.message.open_tasks += 1
        self._outstanding.opened()
        self._held.append(task)
        if len(self._held) >= fault.window:
            self._let_go()
        elif len(self._held) == 1:
            self._release = asyncio.get_running_loop().call_later(fault.seconds, self._let_go)

    def _let_go(self) -> None:
        if self._release:
            self._release.cancel()
        held, self._held = self._held, []
        order = list(held)
        while len(order) > 1 and order == held:
            self._faults.random.shuffle(order)
        for task in order:
            self._queue(task, after=0)

    def _end(self, task: Task, *, fate: Fate | None) -> None:
        if fate is not None and task.delivery.fate != "delivered":
            task.delivery.fate = fate
        task.message.open_tasks -= 1
        self._outstanding.finished()
        if not task.message.open_tasks:
            self._finished(task.message)

    async def _send(self) -> None:
        while self._ready:
            await self._gate.wait()
            if self._ready:
                await self._deliver(self._ready.popleft())

    async def _deliver(self, task: Task) -> None:
        delivery, behaviour = task.delivery, self._behaviour()
        try:
            outcome = await self._attempt(task, behaviour)
        except BaseException:
            self._end(task, fate="failed")
            raise
        if outcome.accepted:
            delivery.next_attempt_ms = None
            self._end(task, fate="delivered")
            return
        if task.trigger != "schedule":
            self._end(task, fate=None)
            return
        delivery.failures += 1
        delay = next_delay(delivery.failures, outcome=outcome, behaviour=behaviour, draw=self._faults.random)
        if not self.endpoint.enabled or delay is None:
            delivery.next_attempt_ms = None
            self._end(task, fate="failed" if delay is None else "disabled")
        else:
            self._queue(task, after=delay)

    async def _attempt(self, task: Task, behaviour: Behaviour) -> Outcome:
        message, endpoint = task.message, self.endpoint
        began_ms = now_ms()
        marks: list[str] = []
        clock = self._faults.take("clock", event_type=message.type, endpoint_id=endpoint.id)
        wrong = self._faults.take("wrong_signature", event_type=message.type, endpoint_id=endpoint.id)
        cut = self._faults.take("break_connection", event_type=message.type, endpoint_id=endpoint.id)
        marks += [fault.kind for fault in (clock, wrong) if fault]
        timestamp = began_ms // 1000 + (round(clock.signature_minutes * 60) if clock else 0)
        headers = signing.headers(
            message_id=message.id,
            timestamp=timestamp,
            body=message.body,
            secrets=[WRONG_SECRET] if wrong else endpoint.signing_secrets(now_ms=began_ms),
            families=behaviour.header_families,
        )
        signature = headers[f"{behaviour.header_families[0]}-signature"]

        def note(outcome: Outcome, *, at_ms: int, at_once: bool, faults: list[str]) -> None:
            task.delivery.attempts.append(
                Attempt(
                    at_ms=at_ms,
                    timestamp=timestamp,
                    signature=signature,
                    duration_ms=outcome.seconds * 1000,
                    status=outcome.status,
                    error=outcome.error,
                    trigger=task.trigger,
                    at_once=at_once,
                    faults=tuple(faults),
                )
            )

        if cut:
            outcome = await self._transport.post_and_break(endpoint.url, headers=headers, body=message.body)
        else:
            outcome = await self._post(message, headers=headers, behaviour=behaviour)
        note(outcome, at_ms=began_ms, at_once=False, faults=[*marks, cut.kind] if cut else marks)
        if outcome.broken and outcome.seconds < AT_ONCE_SECONDS:
            again_ms = now_ms()
            outcome = await self._post(message, headers=headers, behaviour=behaviour)
            note(outcome, at_ms=again_ms, at_once=True, faults=marks)
        return outcome

    async def _post(self, message: Message, *, headers: dict[str, str], behaviour: Behaviour) -> Outcome:
        return await self._transport.post(
            self.endpoint.url, headers=headers, body=message.body, timeout=behaviour.timeout_seconds
        )
