"""Each fault does what its name says, to what it concerns, and can be repeated."""

import time
from dataclasses import replace

import pytest

from devtools.clerk_emulator import Emulator, Fault, Settings
from devtools.clerk_emulator.testing import Arrival, Receiver


def numbers(arrivals: list[Arrival]) -> list[int]:
    return [arrival.event["data"]["number"] for arrival in arrivals]


def emit(clerk: Emulator, count: int, *, event_type: str = "x.y") -> list[str]:
    return [clerk.emit(event_type, {"number": number}).id for number in range(count)]


async def test_lost_events_never_arrive_and_the_log_says_so(clerk: Emulator, receiver: Receiver) -> None:
    clerk.add_endpoint(receiver.url)
    clerk.add_fault(Fault("lose", next=2, types="x.*"))
    other = clerk.emit("other", {"number": 9})
    lost, kept = emit(clerk, 2), emit(clerk, 1)
    await clerk.idle()
    assert {arrival.id for arrival in receiver.arrivals} == {other.id, *kept}
    assert [clerk.dispatcher.log.get(one).fate for one in lost] == ["lost", "lost"]  # type: ignore[union-attr]
    assert list(clerk.faults) == []


async def test_delayed_events_arrive_late(clerk: Emulator, receiver: Receiver) -> None:
    clerk.add_endpoint(receiver.url)
    clerk.add_fault(Fault("delay", seconds=0.3, next=1))
    began = time.monotonic()
    emit(clerk, 2)
    await clerk.idle()
    assert numbers(receiver.arrivals) == [1, 0]
    assert time.monotonic() - began >= 0.3


async def test_duplicated_events_arrive_several_times_with_one_id(clerk: Emulator, receiver: Receiver) -> None:
    endpoint = clerk.add_endpoint(receiver.url)
    clerk.add_fault(Fault("duplicate", copies=2, seconds=0, next=1))
    (identifier,) = emit(clerk, 1)
    await clerk.idle()
    assert [arrival.id for arrival in receiver.arrivals] == [identifier] * 3
    for arrival in receiver.arrivals:
        arrival.verify(endpoint.secrets[0].value)


async def test_reordered_events_all_arrive_in_another_order(clerk: Emulator, receiver: Receiver) -> None:
    clerk.events.behaviour = replace(clerk.events.behaviour, concurrency=1)
    clerk.add_endpoint(receiver.url)
    clerk.add_fault(Fault("reorder", window=6, seconds=30))
    emit(clerk, 12)
    await clerk.idle()
    seen = numbers(receiver.arrivals)
    assert sorted(seen[:6]) == list(range(6))
    assert sorted(seen[6:]) == list(range(6, 12))
    assert seen[:6] != sorted(seen[:6])
    assert seen[6:] != sorted(seen[6:])


async def test_an_incomplete_window_is_let_go_in_time(clerk: Emulator, receiver: Receiver) -> None:
    clerk.add_endpoint(receiver.url)
    clerk.add_fault(Fault("reorder", window=100, seconds=0.2))
    emit(clerk, 3)
    await clerk.idle()
    assert sorted(numbers(receiver.arrivals)) == [0, 1, 2]


async def test_a_wrong_signature_does_not_verify_and_the_retry_does(clerk: Emulator, receiver: Receiver) -> None:
    endpoint = clerk.add_endpoint(receiver.url)
    clerk.add_fault(Fault("wrong_signature", next=1))
    receiver.answer(400)
    emit(clerk, 1)
    await clerk.idle()
    first, second = receiver.arrivals
    with pytest.raises(Exception, match="No matching signature"):
        first.verify(endpoint.secrets[0].value)
    second.verify(endpoint.secrets[0].value)


async def test_a_connection_broken_on_command_repeats_the_whole_request(clerk: Emulator, receiver: Receiver) -> None:
    endpoint = clerk.add_endpoint(receiver.url)
    clerk.add_fault(Fault("break_connection", next=1))
    emit(clerk, 1)
    await clerk.idle()
    first, second = await receiver.arrived(2)
    assert (first.headers["svix-signature"], first.body) == (second.headers["svix-signature"], second.body)
    first.verify(endpoint.secrets[0].value)


@pytest.mark.parametrize("minutes", [-10, 10])
async def test_a_clock_that_is_off_makes_signatures_stale(clerk: Emulator, receiver: Receiver, minutes: float) -> None:
    endpoint = clerk.add_endpoint(receiver.url)
    clerk.add_fault(Fault("clock", signature_minutes=minutes, next=1))
    receiver.answer(400)
    emit(clerk, 1)
    await clerk.idle()
    stale, fresh = receiver.arrivals
    assert abs(stale.timestamp - time.time() - minutes * 60) < 5
    with pytest.raises(Exception, match="timestamp too"):
        stale.verify(endpoint.secrets[0].value)
    fresh.verify(endpoint.secrets[0].value)


async def test_a_clock_that_is_off_makes_events_look_older(clerk: Emulator, receiver: Receiver) -> None:
    endpoint = clerk.add_endpoint(receiver.url)
    clerk.add_fault(Fault("clock", event_minutes=-7))
    emit(clerk, 1)
    await clerk.idle()
    (arrival,) = receiver.arrivals
    arrival.verify(endpoint.secrets[0].value)
    assert abs(arrival.event["timestamp"] / 1000 - time.time() + 7 * 60) < 5


async def test_a_disabled_endpoint_gets_nothing(clerk: Emulator, receiver: Receiver) -> None:
    endpoint = clerk.add_endpoint(receiver.url)
    receiver.answer(500)
    (waiting,) = emit(clerk, 1)
    await receiver.arrived(1)
    clerk.dispatcher.enable(endpoint, enabled=False)
    (never,) = emit(clerk, 1)
    await clerk.idle()
    clerk.dispatcher.enable(endpoint, enabled=True)
    (kept,) = emit(clerk, 1)
    await clerk.idle()
    log = clerk.dispatcher.log
    fates = [message.fate for one in (waiting, never, kept) if (message := log.get(one))]
    assert fates == ["disabled", "disabled", "delivered"]
    assert [arrival.id for arrival in receiver.arrivals] == [waiting, kept]


async def test_a_fault_can_concern_one_endpoint_only(clerk: Emulator, receiver: Receiver) -> None:
    one, other = clerk.add_endpoint(receiver.url), clerk.add_endpoint(receiver.url)
    clerk.add_fault(Fault("lose", endpoint_id=one.id))
    message = clerk.emit("x.y", {})
    await clerk.idle()
    assert [message.deliveries[endpoint.id].fate for endpoint in (one, other)] == ["lost", "delivered"]


async def test_a_paused_delivery_goes_on_when_it_is_resumed(clerk: Emulator, receiver: Receiver) -> None:
    clerk.add_endpoint(receiver.url)
    clerk.dispatcher.pause()
    emit(clerk, 3)
    with pytest.raises(TimeoutError):
        await clerk.idle(timeout=0.1)
    assert receiver.arrivals == []
    clerk.dispatcher.resume()
    await clerk.idle()
    assert sorted(numbers(receiver.arrivals)) == [0, 1, 2]


async def test_a_rate_picks_the_same_events_in_every_run_of_a_seed(receiver: Receiver) -> None:
    async def lost(seed: int) -> list[int]:
        async with Emulator(Settings(users=1, organizations=0, memberships=0, seed=seed)) as clerk:
            clerk.add_endpoint(receiver.url)
            clerk.add_fault(Fault("lose", rate=0.3))
            messages = [clerk.emit("x.y", {"number": number}) for number in range(100)]
            await clerk.idle()
            return [number for number, message in enumerate(messages) if message.fate == "lost"]

    first = await lost(1)
    assert first == await lost(1)
    assert first != await lost(2)
    assert 15 <= len(first) <= 45


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "explode"},
        {"kind": "lose", "rate": 1.5},
        {"kind": "lose", "next": 0},
        {"kind": "clock"},
        {"kind": "reorder", "window": 1},
        {"kind": "delay", "seconds": -1},
    ],
)
def test_a_fault_that_cannot_work_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Fault(**wrong)  # type: ignore[arg-type]
