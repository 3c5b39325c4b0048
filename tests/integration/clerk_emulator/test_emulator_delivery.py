"""Events arrive as Svix would send them."""

import random
import time
from dataclasses import replace
from itertools import pairwise

import pytest

from devtools.clerk_emulator import Behaviour, Emulator, Endpoint, Settings
from devtools.clerk_emulator.delivery.messages import Message
from devtools.clerk_emulator.delivery.schedule import next_delay
from devtools.clerk_emulator.delivery.signing import signature
from devtools.clerk_emulator.delivery.transport import Outcome
from devtools.clerk_emulator.settings import SVIX_SCHEDULE
from devtools.clerk_emulator.testing import Receiver


def behave(clerk: Emulator, **changes: object) -> None:
    clerk.events.behaviour = replace(clerk.events.behaviour, **changes)  # type: ignore[arg-type]


def secret_of(endpoint: Endpoint) -> str:
    return endpoint.secrets[0].value


def statuses(message: Message) -> list[int | str | None]:
    (delivery,) = message.deliveries.values()
    return [attempt.status or (attempt.error or "").split(":")[0] for attempt in delivery.attempts]


async def test_a_change_arrives_signed_and_in_clerks_envelope(clerk: Emulator, receiver: Receiver) -> None:
    endpoint = clerk.add_endpoint(receiver.url)
    before = int(time.time() * 1000)
    user = clerk.changes.users.create({"email_address": ["ada@example.com"]})
    await clerk.idle()
    (arrival,) = receiver.arrivals
    arrival.verify(secret_of(endpoint))
    event = arrival.event
    assert set(event) == {"data", "object", "type", "timestamp", "instance_id", "event_attributes"}
    assert (event["object"], event["type"], event["instance_id"]) == ("event", "user.created", clerk.instance_id)
    assert event["data"]["id"] == user.id
    assert before <= event["timestamp"] <= time.time() * 1000
    assert arrival.id.startswith("msg_")
    assert arrival.headers["user-agent"].startswith("Svix-Webhooks/")
    assert arrival.headers["content-type"] == "application/json"


async def test_a_retry_has_the_same_id_and_body_and_a_fresh_timestamp_and_signature(
    clerk: Emulator, receiver: Receiver
) -> None:
    behave(clerk, retry_scale=0.21)  # 5 s become 1.05 s: the timestamp, in whole seconds, must move
    endpoint = clerk.add_endpoint(receiver.url)
    receiver.answer(500)
    clerk.emit("x.y", {})
    await clerk.idle()
    first, second = receiver.arrivals
    assert (first.id, first.body) == (second.id, second.body)
    assert second.timestamp > first.timestamp
    assert second.signature != first.signature
    for arrival in (first, second):
        arrival.verify(secret_of(endpoint))


@pytest.mark.parametrize("status", [301, 302, 400, 401, 404, 410, 429, 500, 503])
async def test_everything_but_2xx_is_tried_again(clerk: Emulator, receiver: Receiver, status: int) -> None:
    clerk.add_endpoint(receiver.url)
    receiver.answer(status, headers={"Location": receiver.url})
    message = clerk.emit("x.y", {})
    await clerk.idle()
    assert statuses(message) == [status, 204]
    assert message.fate == "delivered"


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_any_2xx_is_taken(clerk: Emulator, receiver: Receiver, status: int) -> None:
    clerk.add_endpoint(receiver.url)
    receiver.answer(status)
    message = clerk.emit("x.y", {})
    await clerk.idle()
    assert statuses(message) == [status]


async def test_after_eight_attempts_on_the_scaled_schedule_a_message_has_failed(
    clerk: Emulator, receiver: Receiver
) -> None:
    scale = 0.00002  # 5 s become 0.1 ms, 10 h become 0.72 s
    behave(clerk, retry_scale=scale)
    clerk.add_endpoint(receiver.url)
    receiver.answer(*[500] * 8)
    message = clerk.emit("x.y", {})
    await clerk.idle()
    (delivery,) = message.deliveries.values()
    assert (message.fate, len(receiver.arrivals)) == ("failed", 8)
    waits = [later.at_ms - earlier.at_ms for earlier, later in pairwise(delivery.attempts)]
    for wait, scheduled in zip(waits, SVIX_SCHEDULE, strict=True):
        assert scheduled * scale * 1000 - 2 <= wait <= scheduled * scale * 1000 + 2_000


@pytest.mark.parametrize(
    ("asked", "failures", "seconds"),
    [
        (None, 1, 5),
        ("1", 1, 5),
        ("8", 1, 8),
        ("3600", 1, 10),
        ("soon", 1, 5),
        ("-4", 1, 5),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 1, 5),
        ("Fri, 31 Dec 2100 23:59:59 GMT", 2, 600),
        ("400", 2, 400),
        ("1", 7, 36_000),
        ("1", 8, None),
    ],
)
def test_retry_after_counts_between_once_and_twice_the_schedule(
    asked: str | None, failures: int, seconds: float | None
) -> None:
    outcome = Outcome(seconds=0.1, status=503, retry_after=asked)
    for scale in (1.0, 0.01):
        delay = next_delay(failures, outcome=outcome, behaviour=Behaviour(retry_scale=scale), draw=random.Random(1))
        assert delay == (None if seconds is None else pytest.approx(seconds * scale))


def test_jitter_stays_within_its_share_and_is_decided_by_the_seed() -> None:
    def delays(seed: int) -> list[float | None]:
        draw, behaviour = random.Random(seed), Behaviour(retry_scale=1, retry_jitter=0.2)
        return [next_delay(1, outcome=Outcome(0.1, status=500), behaviour=behaviour, draw=draw) for _ in range(50)]

    assert delays(1) == delays(1) != delays(2)
    assert all(delay is not None and 4 <= delay <= 6 for delay in delays(1))


async def test_retry_after_is_read_from_the_answer(clerk: Emulator, receiver: Receiver) -> None:
    behave(clerk, retry_scale=0.1)
    clerk.add_endpoint(receiver.url)
    receiver.answer(503, headers={"Retry-After": "9"})
    message = clerk.emit("x.y", {})
    await clerk.idle()
    (delivery,) = message.deliveries.values()
    assert delivery.attempts[1].at_ms - delivery.attempts[0].at_ms >= 898


async def test_a_broken_connection_is_tried_again_at_once_and_unchanged(clerk: Emulator, receiver: Receiver) -> None:
    behave(clerk, retry_scale=10.0)
    endpoint = clerk.add_endpoint(receiver.url)
    receiver.answer("break")
    message = clerk.emit("x.y", {})
    await clerk.idle(timeout=5)
    first, second = receiver.arrivals
    assert (first.id, first.timestamp, first.signature) == (second.id, second.timestamp, second.signature)
    second.verify(secret_of(endpoint))
    (delivery,) = message.deliveries.values()
    assert [attempt.at_once for attempt in delivery.attempts] == [False, True]
    assert delivery.fate == "delivered"


async def test_a_connection_that_breaks_twice_waits_for_the_schedule(clerk: Emulator, receiver: Receiver) -> None:
    clerk.add_endpoint(receiver.url)
    receiver.answer("break", "break")
    message = clerk.emit("x.y", {})
    await clerk.idle()
    assert statuses(message) == ["connection broken", "connection broken", 204]
    (delivery,) = message.deliveries.values()
    assert delivery.failures == 1


async def test_nobody_listening_is_a_failure_like_others(clerk: Emulator, receiver: Receiver) -> None:
    behave(clerk, retry_scale=0.0)
    clerk.add_endpoint("http://127.0.0.1:9/webhooks/clerk")
    message = clerk.emit("x.y", {})
    await clerk.idle()
    assert statuses(message) == ["no connection"] * 8
    assert message.fate == "failed"


async def test_an_endpoint_that_does_not_answer_in_time_waits_a_minute_longer(
    clerk: Emulator, receiver: Receiver
) -> None:
    behave(clerk, retry_scale=0.005, timeout_seconds=0.2)
    clerk.add_endpoint(receiver.url)
    receiver.answer("hold")
    message = clerk.emit("x.y", {})
    await clerk.idle()
    assert statuses(message) == ["timeout", 204]
    first, second = receiver.arrivals[0], receiver.arrivals[1]
    (delivery,) = message.deliveries.values()
    wait = delivery.attempts[1].at_ms - delivery.attempts[0].at_ms
    assert wait >= 200 + 298  # 60 s scaled, and not 5 s
    assert first.id == second.id


async def test_several_endpoints_get_the_same_id_and_their_own_signature(clerk: Emulator, receiver: Receiver) -> None:
    one, other = clerk.add_endpoint(receiver.url), clerk.add_endpoint(receiver.url)
    clerk.emit("x.y", {})
    await clerk.idle()
    first, second = receiver.arrivals
    assert first.id == second.id
    assert first.signature != second.signature
    assert secret_of(one) != secret_of(other)
    for endpoint in (one, other):
        assert sum(_verifies(arrival.verify, secret_of(endpoint)) for arrival in receiver.arrivals) == 1


def _verifies(verify: object, secret: str) -> bool:
    assert callable(verify)
    try:
        verify(secret)
    except Exception:
        return False
    return True


async def test_during_a_rotation_there_are_two_signatures_the_new_ones_first(
    clerk: Emulator, receiver: Receiver
) -> None:
    endpoint = clerk.add_endpoint(receiver.url)
    old, new = secret_of(endpoint), clerk.dispatcher.new_secret()
    clerk.emit("before", {})
    await clerk.idle()
    endpoint.rotate(new, now_ms=int(time.time() * 1000))
    clerk.emit("during", {})
    await clerk.idle()
    endpoint.rotate(new, now_ms=0, keep_old_seconds=0)
    clerk.emit("after", {})
    await clerk.idle()
    before, during, _ = receiver.arrivals
    assert (len(before.signature.split()), len(during.signature.split())) == (1, 2)
    for secret in (old, new):
        during.verify(secret)
    first_only = replace(during, headers=during.headers | {"svix-signature": during.signature.split()[0]})
    first_only.verify(new)
    assert not _verifies(first_only.verify, old)


async def test_the_old_secret_stops_signing_after_its_time(clerk: Emulator, receiver: Receiver) -> None:
    endpoint = clerk.add_endpoint(receiver.url)
    old, new = secret_of(endpoint), clerk.dispatcher.new_secret()
    endpoint.rotate(new, now_ms=int(time.time() * 1000), keep_old_seconds=0)
    clerk.emit("x.y", {})
    await clerk.idle()
    (arrival,) = receiver.arrivals
    arrival.verify(new)
    assert not _verifies(arrival.verify, old)


@pytest.mark.parametrize("families", [("webhook",), ("svix", "webhook")])
async def test_either_header_family_carries_the_signature(
    clerk: Emulator, receiver: Receiver, families: tuple[str, ...]
) -> None:
    behave(clerk, header_families=families)
    endpoint = clerk.add_endpoint(receiver.url)
    clerk.emit("x.y", {})
    await clerk.idle()
    (arrival,) = receiver.arrivals
    arrival.verify(secret_of(endpoint))
    for family in ("svix", "webhook"):
        assert (f"{family}-signature" in arrival.headers) is (family in families)


async def test_the_envelope_tells_seconds_and_no_attributes_where_it_is_told_to(
    clerk: Emulator, receiver: Receiver
) -> None:
    behave(clerk, timestamp_unit="s", event_attributes=False)
    clerk.add_endpoint(receiver.url)
    clerk.emit("x.y", {})
    await clerk.idle()
    event = receiver.arrivals[0].event
    assert event["timestamp"] < 10_000_000_000
    assert "event_attributes" not in event


async def test_an_endpoint_gets_the_types_it_asked_for(clerk: Emulator, receiver: Receiver) -> None:
    clerk.dispatcher.add_endpoint(receiver.url, types=["user.deleted"])
    user = clerk.changes.users.create({"email_address": ["ada@example.com"]})
    clerk.changes.users.delete(user.id)
    await clerk.idle()
    assert [arrival.event["type"] for arrival in receiver.arrivals] == ["user.deleted"]


async def test_bytes_that_are_no_text_are_sent_and_signed_as_they_are(clerk: Emulator, receiver: Receiver) -> None:
    endpoint = clerk.add_endpoint(receiver.url)
    for body in (b"\xff\xfe", b"", b'{"a": "\\ud800"}', b"x" * 1_200_000):
        clerk.events.emit_raw(body)
        await clerk.idle()
        arrival = receiver.arrivals[-1]
        expected = signature(secret_of(endpoint), message_id=arrival.id, timestamp=arrival.timestamp, body=body)
        assert (arrival.body, arrival.signature) == (body, expected)


async def test_a_resent_message_keeps_its_id(clerk: Emulator, receiver: Receiver) -> None:
    clerk.add_endpoint(receiver.url)
    message = clerk.emit("x.y", {})
    await clerk.idle()
    clerk.dispatcher.resend(message)
    await clerk.idle()
    assert [arrival.id for arrival in receiver.arrivals] == [message.id, message.id]


async def test_a_message_can_be_resent_to_an_endpoint_that_came_later(clerk: Emulator, receiver: Receiver) -> None:
    message = clerk.emit("x.y", {})
    assert message.fate == "unsent"
    clerk.add_endpoint(receiver.url)
    clerk.dispatcher.resend(message)
    await clerk.idle()
    assert [arrival.id for arrival in receiver.arrivals] == [message.id]
    assert message.fate == "delivered"


async def test_requests_in_flight_stay_within_the_bound(clerk: Emulator, receiver: Receiver) -> None:
    behave(clerk, concurrency=8)
    clerk.add_endpoint(receiver.url)
    for _ in range(50):
        receiver.answer("hold")
        clerk.emit("x.y", {})
    await receiver.arrived(8)
    receiver.release()
    await clerk.idle()
    assert (len(receiver.arrivals), receiver.most_at_once) == (50, 8)


async def test_the_log_forgets_the_oldest_finished_messages(receiver: Receiver) -> None:
    settings = Settings(users=1, organizations=0, memberships=0, message_log=5, behaviour=Behaviour())
    async with Emulator(settings) as clerk:
        clerk.add_endpoint(receiver.url)
        for number in range(9):
            clerk.emit("x.y", {"number": number})
            await clerk.idle()
        assert len(list(clerk.dispatcher.log.newest_first())) == 5
        assert clerk.dispatcher.log.total == 9
