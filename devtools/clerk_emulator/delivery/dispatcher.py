"""All endpoints and all messages: what is sent where, and what became of it."""

import asyncio
from collections.abc import Callable, Iterable
from itertools import count
from types import TracebackType
from typing import Self

from devtools.clerk_emulator.behaviour import Behaviour
from devtools.clerk_emulator.delivery.endpoints import Endpoint, SigningSecret, checked_url, new_secret
from devtools.clerk_emulator.delivery.faults import Faults
from devtools.clerk_emulator.delivery.lane import Lane
from devtools.clerk_emulator.delivery.messages import Delivery, Message, MessageLog, now_ms
from devtools.clerk_emulator.delivery.outstanding import Outstanding
from devtools.clerk_emulator.delivery.transport import Transport


class Dispatcher:
    """Sends every message to every endpoint; an async context manager."""

    def __init__(self, *, seed: int, log_limit: int, faults: Faults, behaviour: Callable[[], Behaviour]) -> None:
        """Begin without endpoints."""
        self.log = MessageLog(limit=log_limit)
        self.faults = faults
        self.outstanding = Outstanding()
        self._seed = seed
        self._behaviour = behaviour
        self._lanes: dict[str, Lane] = {}
        self._numbers = count(1)
        self._gate = asyncio.Event()
        self._gate.set()
        self._transport = Transport()

    async def __aenter__(self) -> Self:
        """Open the client."""
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Drop what is not delivered and close the client."""
        for lane in self._lanes.values():
            await lane.close()
        await self._transport.__aexit__(kind, error, traceback)

    @property
    def endpoints(self) -> list[Endpoint]:
        """The endpoints, the oldest first."""
        return [lane.endpoint for lane in self._lanes.values()]

    @property
    def paused(self) -> bool:
        """Whether delivery waits for :meth:`resume`."""
        return not self._gate.is_set()

    def add_endpoint(self, url: str, *, secret: str | None = None, types: Iterable[str] = ()) -> Endpoint:
        """Add an endpoint; its secret is derived from the seed where none is given. Raises ValueError."""
        number = next(self._numbers)
        endpoint = Endpoint(
            id=f"ep_{number}",
            url=checked_url(url),
            secrets=(SigningSecret(secret or new_secret(seed=self._seed, number=number)),),
            types=frozenset(types),
        )
        self._lanes[endpoint.id] = Lane(
            endpoint,
            transport=self._transport,
            faults=self.faults,
            behaviour=self._behaviour,
            gate=self._gate,
            outstanding=self.outstanding,
            finished=self.log.finished,
        )
        return endpoint

    def endpoint(self, identifier: str) -> Endpoint | None:
        """Return an endpoint, or None."""
        lane = self._lanes.get(identifier)
        return lane.endpoint if lane else None

    def new_secret(self) -> str:
        """Return a secret that was not given out before."""
        return new_secret(seed=self._seed, number=next(self._numbers))

    def enable(self, endpoint: Endpoint, *, enabled: bool) -> None:
        """Enable or disable an endpoint; what waits for a disabled one is dropped."""
        endpoint.enabled = enabled
        if not enabled:
            self._lanes[endpoint.id].abandon()

    async def remove_endpoint(self, endpoint: Endpoint) -> None:
        """Remove an endpoint and drop what is on its way there."""
        await self._lanes.pop(endpoint.id).close()

    def send(self, *, message_id: str, event_type: str, body: bytes, silently: bool = False) -> Message:
        """Send a message to every endpoint that takes its type; silently: to none, it is only remembered."""
        message = Message(id=message_id, type=event_type, body=body, created_ms=now_ms())
        lanes = [lane for lane in self._lanes.values() if not silently and lane.endpoint.takes(event_type)]
        for lane in lanes:
            delivery = message.deliveries[lane.endpoint.id] = Delivery(lane.endpoint.id)
            lane.submit(message, delivery)
        self.log.add(message)
        if not message.open_tasks:
            self.log.finished(message)
        return message

    def resend(self, message: Message, *, endpoint_id: str | None = None) -> None:
        """Send a message again with the same id, to all endpoints or to one, also where it never went before."""
        for lane in self._lanes.values():
            if endpoint_id in (None, lane.endpoint.id):
                delivery = message.deliveries.setdefault(lane.endpoint.id, Delivery(lane.endpoint.id))
                lane.resend(message, delivery)

    def pause(self) -> None:
        """Let no further request begin."""
        self._gate.clear()

    def resume(self) -> None:
        """Let requests begin again."""
        self._gate.set()
