"""The public port: one route, and for every request one of the answers of the design's table.

Svix delivers again whatever is not answered with 2xx, so a refusal loses nothing; only what is on disk is answered 204.
"""

import asyncio
import hmac
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus

from aiohttp import web

from nexus_auth.clerk import envelope
from nexus_auth.failpoints import Failpoint, nowhere
from nexus_auth.store.ingest import Delivery, GroupCommit, Unavailable
from services.webhook.metrics import WebhookMetrics, type_label
from services.webhook.settings import WebhookSettings
from services.webhook.verification import Rejected, Secrets, Stale, verify

PATH = "/webhooks/clerk"
RETRY_AFTER = "5"
"""Seconds; Svix waits at least as long as its own schedule says."""

SLOWEST = 3_600
"""Seconds of lag below which an event counts as delivered late rather than replayed."""

logger = logging.getLogger(__name__)


@dataclass
class Gate:
    """Whether events are accepted now, and why not."""

    instance_id: str | None = None
    """Known once the database is claimed for it."""
    commit: GroupCommit | None = None
    closed_because: str | None = "starting: the database was not reached yet"
    """None while events are accepted."""
    draining: bool = False
    outage: bool = field(default=False)
    """An event was refused since the database last answered: a sweep must look for what Svix gave up on."""


class _Unread(Exception):
    """A body that was not read to its end; the connection cannot be used again."""

    def __init__(self, reason: str, *, status: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status

    def answer(self) -> web.Response:
        headers = {"Retry-After": RETRY_AFTER} if self.status == 503 else {}
        response = web.Response(status=self.status, text=f"{HTTPStatus(self.status).phrase.lower()}\n", headers=headers)
        response.force_close()
        return response


class Receiver:
    """Answers POST /webhooks/clerk."""

    def __init__(
        self,
        settings: WebhookSettings,
        *,
        secrets: Secrets,
        gate: Gate,
        metrics: WebhookMetrics,
        after_outage: Callable[[], Awaitable[None]],
        failpoint: Failpoint = nowhere,
    ) -> None:
        """`after_outage` is awaited, beside the answers, when the database answers again."""
        self._settings = settings
        self._withhold_key = settings.withhold_bytes()
        self._secrets = secrets
        self._gate = gate
        self._metrics = metrics
        self._after_outage = after_outage
        self._failpoint = failpoint
        self._reading = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def application(self) -> web.Application:
        """The aiohttp application of the public port."""
        application = web.Application(client_max_size=self._settings.max_body_bytes, middlewares=[_one_line])
        application.router.add_post(PATH, self.receive)
        application.on_response_prepare.append(_without_server)
        return application

    async def receive(self, request: web.Request) -> web.Response:
        """One delivery, from bytes to answer."""
        if self._gate.draining:
            return self._unavailable("shutting down", close=True)
        try:
            body = await self._read(request)
        except _Unread as refusal:
            self._metrics.rejected.labels(refusal.reason).inc()
            return refusal.answer()
        return await self._accept(request, body)

    async def _read(self, request: web.Request) -> bytes:
        """The whole body. What counts against the limit is what has come, not what was announced: a sender that
        promises a megabyte and sends nothing takes nothing from the others.
        """
        most = self._settings.max_body_bytes
        if (request.content_length or 0) > most:
            raise _Unread("too_large", status=413)
        body = bytearray()
        try:
            async with asyncio.timeout(self._settings.body_timeout):
                async for piece in request.content.iter_any():
                    self._reading += len(piece)
                    body += piece
                    if len(body) > most:
                        raise _Unread("too_large", status=413)
                    if self._reading > self._settings.max_reading_bytes:
                        raise _Unread("overloaded", status=503)
        except TimeoutError:
            raise _Unread("slow_body", status=408) from None
        except (web.RequestPayloadError, ConnectionError):
            raise _Unread("broken_body", status=400) from None
        finally:
            self._reading -= len(body)
        return bytes(body)

    async def _accept(self, request: web.Request, body: bytes) -> web.Response:
        try:
            verified = verify(body, request.headers, secrets=self._secrets.webhooks)
        except Rejected as rejection:
            return self._reject(rejection)
        self._metrics.verified.labels(verified.secret).inc()
        self._metrics.last_event.set_to_current_time()
        gate = self._gate
        if gate.commit is None or gate.closed_because is not None:
            gate.outage = gate.outage or not gate.draining
            return self._unavailable(gate.closed_because or "starting")
        event = envelope.read(body, keep_event_attributes=self._settings.keep_event_attributes)
        if event.instance_id is not None and event.instance_id != gate.instance_id:
            self._metrics.wrong_instance.inc()
            logger.error("refused an event of another instance", extra={"instance_id": event.instance_id[:64]})
            return web.Response(status=403, text="event of another Clerk instance\n")
        delivery = Delivery(
            svix_id=verified.svix_id,
            svix_timestamp=verified.timestamp,
            signature=verified.signature,
            secret=verified.secret,
            event=event,
            body_hmac=hmac.digest(self._withhold_key, body, "sha256") if event.withheld else None,
        )
        try:
            outcome = await gate.commit.submit(delivery)
        except Unavailable as error:
            gate.outage = gate.outage or not gate.draining
            return self._unavailable(str(error), close=gate.draining)
        await self._failpoint("webhook.committed")
        self._count(event, outcome, verified.svix_id)
        self.database_answers()
        return web.Response(status=204)

    def database_answers(self) -> None:
        """Asks for a sweep where events were refused since the last call: some may not be delivered again."""
        if self._gate.outage:
            self._gate.outage = False
            self._metrics.sweeps_requested.inc()
            self._later(self._after_outage())

    def _count(self, event: envelope.Event, outcome: str, svix_id: str) -> None:
        self._metrics.received.labels(type_label(event.type), outcome).inc()
        lag = time.time() - event.observed_at / 1000
        if event.observed_at and outcome != "seen":
            self._metrics.lag.observe(max(lag, 0.0))
        if self._settings.log_events:
            logger.info(
                "event",
                extra={
                    "event": event.type or "unreadable",
                    "outcome": outcome,
                    "id": event.id and event.id[:100],
                    "svix_id": svix_id,
                    "lag_ms": round(lag * 1000) if event.observed_at else None,
                    "why": event.error,
                },
            )

    def _reject(self, rejection: Rejected) -> web.Response:
        self._metrics.rejected.labels(rejection.reason).inc()
        if isinstance(rejection, Stale) and rejection.genuine:
            self._metrics.clock_skew.inc()
            self._metrics.clock_skew_seconds.set(rejection.seconds)
            logger.error(
                "a genuine event is stale by this machine's clock: set the clock, or Svix will disable this endpoint",
                extra={"seconds": round(rejection.seconds)},
            )
        return web.Response(status=400, text="the request could not be verified\n")

    def _unavailable(self, reason: str, *, close: bool = False) -> web.Response:
        self._metrics.rejected.labels("unavailable").inc()
        response = web.Response(status=503, text=f"{reason}\n", headers={"Retry-After": RETRY_AFTER})
        if close:
            response.force_close()
        return response

    def _later(self, work: Awaitable[None]) -> None:
        async def run() -> None:
            try:
                await work
            except Exception:
                self._gate.outage = True
                logger.warning("could not ask for a sweep, will try again", exc_info=True)

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _without_server(_request: web.Request, response: web.StreamResponse) -> None:
    """Strangers need not know which version of what to attack."""
    response.headers.popall("Server", None)


@web.middleware
async def _one_line(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Errors as one plain line, whatever raised them."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        response = web.Response(status=error.status, text=f"{error.reason.lower()}\n")
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
        return response
    except (ConnectionError, asyncio.CancelledError):
        raise
    except Exception:
        logger.exception("an event could not be handled")
        return web.Response(status=503, text="internal error\n", headers={"Retry-After": RETRY_AFTER})
