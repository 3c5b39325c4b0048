"""The public port: one route, and for every request one of the answers of the design's table.

Svix delivers again whatever is not answered with 2xx, so a refusal loses nothing; only what is on disk is answered 204.
Every delivery has a deadline of its own: a sender that hears nothing for 15 s counts a failure and waits for longer.
"""

import asyncio
import hmac
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web

from nexus_auth.clerk import envelope
from nexus_auth.failpoints import Failpoint, nowhere
from nexus_auth.store.ingest import Delivery, GroupCommit, Unavailable
from nexus_auth.telemetry.logs import OnChange
from services.webhook.bodies import RETRY_AFTER, BodyReader, Unread
from services.webhook.metrics import WebhookMetrics, type_label
from services.webhook.settings import WebhookSettings
from services.webhook.skew import SkewAlarm
from services.webhook.verification import Rejected, Secrets, Stale, verify

PATH = "/webhooks/clerk"
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
        self._skew = SkewAlarm()
        self._bodies = BodyReader(
            most=settings.max_body_bytes, most_together=settings.max_reading_bytes, seconds=settings.body_timeout
        )
        self._asking = OnChange(logger, over="a sweep was asked for")
        self._tasks: set[asyncio.Task[None]] = set()

    def application(self) -> web.Application:
        """The aiohttp application of the public port."""
        application = web.Application(client_max_size=self._settings.max_body_bytes, middlewares=[_one_line])
        application.router.add_post(PATH, self.receive)
        return application

    async def receive(self, request: web.Request) -> web.Response:
        """One delivery, from bytes to answer."""
        if self._gate.draining:
            return self._unavailable("shutting down", close=True)
        deadline = asyncio.get_running_loop().time() + self._settings.answer_within
        try:
            body = await self._bodies.read(request)
        except Unread as refusal:
            self._metrics.rejected.labels(refusal.reason).inc()
            return refusal.answer()
        return await self._accept(request, body, deadline=deadline)

    async def _accept(self, request: web.Request, body: bytes, *, deadline: float) -> web.Response:
        try:
            verified = verify(body, request.headers, secrets=self._secrets.webhooks)
        except Rejected as rejection:
            return self._reject(rejection)
        self._skew.fresh()
        self._metrics.verified.labels(verified.secret).inc()
        self._metrics.last_event.set_to_current_time()
        gate = self._gate
        if gate.commit is None or gate.closed_because is not None:
            gate.outage = gate.outage or not gate.draining
            return self._unavailable(gate.closed_because or "starting")
        event = envelope.read(body, keep_event_attributes=self._settings.keep_event_attributes)
        if event.instance_id is not None and event.instance_id != gate.instance_id:
            return self._refuse_instance(event.instance_id)
        delivery = Delivery(
            svix_id=verified.svix_id,
            svix_timestamp=verified.timestamp,
            signature=verified.signature,
            secret=verified.secret,
            event=event,
            body_hmac=hmac.digest(self._withhold_key, body, "sha256") if event.withheld else None,
        )
        try:
            async with asyncio.timeout_at(deadline):
                outcome = await gate.commit.submit(delivery)
        except (Unavailable, TimeoutError) as error:  # what was not stored in time may still be: that is harmless
            gate.outage = gate.outage or not gate.draining
            why = str(error) if isinstance(error, Unavailable) else "the database did not answer in time"
            return self._unavailable(why, close=gate.draining)
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

    def _refuse_instance(self, instance_id: str) -> web.Response:
        if instance_id in envelope.EXAMPLE_INSTANCES:
            self._metrics.examples.inc()
            logger.warning(
                "refused an example event of Clerk's dashboard: signature and endpoint work, and examples are never"
                " stored; to see an event stored, change a user in the Clerk instance of this endpoint",
                extra={"instance_id": instance_id},
            )
            return web.Response(
                status=403, text="the signature is right; example events are not stored, real ones are\n"
            )
        self._metrics.wrong_instance.inc()
        logger.error(
            "refused an event of another Clerk instance: its endpoint points here, or CLERK_INSTANCE_ID is wrong",
            extra={"instance_id": instance_id[:64], "expected": self._gate.instance_id},
        )
        return web.Response(status=403, text="event of another Clerk instance\n")

    def _reject(self, rejection: Rejected) -> web.Response:
        self._metrics.rejected.labels(rejection.reason).inc()
        if isinstance(rejection, Stale) and rejection.genuine and self._skew.stale(rejection.svix_id):
            self._metrics.clock_skew.inc()
            self._metrics.clock_skew_seconds.set(rejection.seconds)
            logger.error(
                "genuine events are stale by this machine's clock: set the clock, or Svix will disable this endpoint",
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
            except Exception as error:
                self._gate.outage = True
                self._asking.trouble("could not ask for a sweep, will try again", error=type(error).__name__)
            else:
                self._asking.fine()

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


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
