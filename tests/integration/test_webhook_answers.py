"""Every row of the table of answers: what arrives, what is said, what is there afterwards."""

import asyncio
import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from devtools.postgres import Database
from devtools.postgres.databases import fetch
from nexus_auth.clerk.envelope import EXAMPLE_INSTANCES
from tests.events import INSTANCE, T0, Signed, deleted, event, membership, organization, user
from tests.service import WebhookService
from tests.wire import Wire, until

MEGABYTE = 2**20
RECEIVED = "nexus_auth_webhook_received_total"
REJECTED = "nexus_auth_webhook_rejected_total"


def rows(database: Database, query: str, *arguments: object) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in fetch(database.admin_url, query, *arguments)]


def nothing_written(database: Database) -> bool:
    counts = "select (select count(*) from clerk_private.inbox_seen) + (select count(*) from clerk_private.inbox)"
    return rows(database, counts + " + (select count(*) from clerk_private.objects)") == [(0,)]


async def test_a_new_event_is_a_row_and_the_same_event_again_changes_nothing(
    database: Database, tmp_path: Path
) -> None:
    everything = """select u.first_name, u::text, o.updated_at, o.synced_at::text
        from clerk.users u join clerk_private.objects o using (id)"""
    inbox = "select svix_id, state, outcome, body from clerk_private.inbox"
    async with WebhookService(database, folder=tmp_path) as service:
        first = Signed(event("user.created", user("user_ada", first_name="Ada")))
        assert await service.post(first) == (204, "")
        before = rows(database, everything)
        assert before[0][0] == "Ada"
        other_body = Signed(event("user.updated", user("user_ada", first_name="Eve", updated_at=T0 + 1)), first.svix_id)
        for again in (first, first, other_body):
            assert await service.post(again) == (204, "")
        assert rows(database, everything) == before
        assert rows(database, inbox) == [(first.svix_id, "applied", "created", first.body)]
        assert await service.metric(f'{RECEIVED}{{outcome="created",type="user.created"}}') == 1
        assert await service.metric(f'{RECEIVED}{{outcome="seen",type="user.created"}}') == 2
        assert await service.metric(f'{RECEIVED}{{outcome="seen",type="user.updated"}}') == 1


async def test_every_type_is_kept_and_the_unknown_ones_are_one_label(database: Database, tmp_path: Path) -> None:
    data = {"object": "thing", "id": "thing_0123456789", "updated_at": T0}
    waiting = [
        *("session.created", "session.pending", "session.ended", "organizationInvitation.accepted"),
        *("organizationDomain.deleted", "role.created", "permission.updated", "waitlistEntry.created"),
        *("invitation.created", "subscription.pastDue", "subscriptionItem.freeTrialEnding", "paymentAttempt.updated"),
    ]
    unknown = ["galaxy.created", "user.exported", "nonsense", "user.", ".created", "user.created.twice", "x" * 3_000]
    async with WebhookService(database, folder=tmp_path) as service:
        for event_type in (*waiting, *unknown):
            assert await service.post(Signed(event(event_type, data))) == (204, ""), event_type
        kept = dict(rows(database, "select type, state from clerk_private.inbox"))
        assert kept == dict.fromkeys(waiting, "waiting") | dict.fromkeys(unknown, "kept")
        assert await service.metric(f'{RECEIVED}{{outcome="kept",type="other"}}') == len(unknown)
        assert rows(database, "select count(*) from clerk_private.objects") == [(0,)]


UNFIT = {
    "no id": event("user.created", {"object": "user", "updated_at": T0, "first_name": "Planted"}),
    "empty id": event("user.created", user("", first_name="Planted")),
    "number as id": event("user.created", user("x") | {"id": 4711, "first_name": "Planted"}),
    "endless id": event("user.created", user("x" * 1_000)),
    "text as time": event("user.updated", user("user_1") | {"updated_at": "Planted"}),
    "fraction as time": event("user.updated", user("user_1") | {"updated_at": T0 + 0.5}),
    "truth as time": event("user.updated", user("user_1") | {"updated_at": True}),
    "no time": event("organization.updated", {"id": "org_1", "name": "Planted"}),
    "negative time": event("organization.updated", organization("org_1", updated_at=-1)),
    "time beyond time": event("organization.updated", organization("org_1", updated_at=2**60)),
    "list as data": event("user.created", ["Planted"]),
    "text as data": event("user.created", "Planted"),
    "no data": event("user.created", None),
    "deletion of nobody": event("user.deleted", {"object": "user", "deleted": True, "slug": "Planted"}),
    "no name": event("organization.created", organization("org_1", slug="Planted") | {"name": None}),
    "no truth": event("user.created", user("user_1", first_name="Planted") | {"banned": "Planted"}),
    "no date": event("user.created", user("user_1", first_name="Planted") | {"created_at": 10**18}),
    "no addresses": event("user.created", user("user_1") | {"email_addresses": "Planted"}),
    "no organization": event("organizationMembership.created", {"id": "orgmem_1", "updated_at": T0, "role": "Planted"}),
    "no event": b'["Planted"]',
    "no type": b'{"data":{"first_name":"Planted"}}',
    "number as type": b'{"data":{"first_name":"Planted"},"type":7}',
    "no json": b'{"type":"user.created","data":{"first_name":"Planted"',
    "two documents": b'{"type":"user.created"} {"first_name":"Planted"}',
    "nothing": b"",
    "control character": b'{"type":"user.created","data":{"first_name":"Planted\x01"}}',
}


async def test_what_cannot_be_applied_is_parked_with_a_reason_that_quotes_nothing(
    database: Database, tmp_path: Path
) -> None:
    sent = {case: Signed(body) for case, body in UNFIT.items()}
    async with WebhookService(database, folder=tmp_path) as service:
        for case, signed in sent.items():
            assert await service.post(signed) == (204, ""), case
        assert await service.metric("nexus_auth_webhook_batch_failures_total") == 0
        parked = dict(rows(database, "select svix_id, error from clerk_private.parked where resolved_at is null"))
        bodies = dict(rows(database, "select svix_id, body from clerk_private.inbox where state = 'parked'"))
        counted = (await service.health("/metrics"))[1].splitlines()
    for case, signed in sent.items():
        assert parked.pop(signed.svix_id), case
        assert bodies.pop(signed.svix_id) == signed.body, case
    assert parked == bodies == {}
    totals = [float(line.split()[-1]) for line in counted if line.startswith(RECEIVED) and 'outcome="parked"' in line]
    incomplete = [float(line.split()[-1]) for line in counted if line.startswith(RECEIVED) and '"incomplete"' in line]
    assert sum(totals) + sum(incomplete) == len(sent)
    errors = rows(database, "select error from clerk_private.parked")
    assert not [error for (error,) in errors if "Planted" in error or "4711" in error]
    assert "Planted" not in service.log.read_text()
    assert rows(database, "select count(*) from clerk_private.objects") == [(0,)]


async def test_parked_events_are_shown_by_a_gauge_for_an_alert(database: Database, tmp_path: Path) -> None:
    async with WebhookService(database, folder=tmp_path, wait=False) as service:
        await service.ready()
        await service.post(Signed(UNFIT["no id"]))

    async with WebhookService(database, folder=tmp_path) as service:

        async def shown() -> bool:
            return await service.metric("nexus_auth_webhook_parked_events") == 1

        await until(shown)


async def test_more_than_a_megabyte_is_too_large_however_it_is_announced(database: Database, tmp_path: Path) -> None:
    whole = event("user.created", user("user_ada"))
    largest, larger = (Signed(whole + b" " * (size - len(whole))) for size in (MEGABYTE, MEGABYTE + 1))
    async with WebhookService(database, folder=tmp_path) as service:
        assert await service.post(larger) == (413, "request entity too large\n")

        async def pieces() -> Any:
            for start in range(0, len(larger.body), 100_000):
                yield larger.body[start : start + 100_000]

        async with service.session.post(service.url, data=pieces(), headers=larger.headers()) as answer:
            assert (answer.status, await answer.text()) == (413, "request entity too large\n")
        async with Wire(service.url) as wire:
            await wire.send(wire.head({"Content-Length": str(10**12)}))
            assert (await wire.answer()).status == 413
        assert nothing_written(database)
        assert await service.metric(f'{REJECTED}{{reason="too_large"}}') == 3
        assert await service.post(largest) == (204, "")


async def test_an_event_of_another_instance_is_refused_loudly(database: Database, tmp_path: Path) -> None:
    async with WebhookService(database, folder=tmp_path) as service:
        for body in (
            event("user.created", user("user_eve"), instance_id="ins_development00000000"),
            event("session.created", {"id": "sess_1"}, instance_id=INSTANCE + "0"),
            event("user.created", user("user_eve", first_name="\x00"), instance_id=INSTANCE.upper()),
        ):
            assert await service.post(Signed(body)) == (403, "event of another Clerk instance\n")
        assert await service.metric("nexus_auth_webhook_wrong_instance_total") == 3
        said = await service.logged(
            "refused an event of another Clerk instance: its endpoint points here, or CLERK_INSTANCE_ID is wrong"
        )
        assert (said["level"], said["expected"]) == ("error", INSTANCE)
        assert nothing_written(database)


@pytest.mark.parametrize("instance", sorted(EXAMPLE_INSTANCES))
async def test_an_example_of_clerks_dashboard_is_refused_and_recognised(
    database: Database, tmp_path: Path, instance: str
) -> None:
    async with WebhookService(database, folder=tmp_path) as service:
        for event_type in ("user.created", "email.created", "organizationMembership.deleted"):
            signed = Signed(event(event_type, {"id": "user_29w83sxmDNGwOuEthce5gg56FcC"}, instance_id=instance))
            status, text = await service.post(signed)
            assert (status, text) == (403, "the signature is right; example events are not stored, real ones are\n")
        assert await service.metric("nexus_auth_webhook_examples_total") == 3
        assert await service.metric("nexus_auth_webhook_wrong_instance_total") == 0
        said = [line for line in service.log.read_text().splitlines() if "refused an example event" in line]
        assert len(said) == 3
        assert all("signature and endpoint work" in line and '"level": "warning"' in line for line in said)
        assert nothing_written(database)


async def test_other_methods_and_paths_are_one_line(database: Database, tmp_path: Path) -> None:
    signed = Signed(event("user.created", user("user_ada")))
    async with WebhookService(database, folder=tmp_path) as service:
        for method in ("GET", "PUT", "DELETE", "OPTIONS", "PATCH"):
            async with service.session.request(
                method, service.url, data=signed.body, headers=signed.headers()
            ) as answer:
                assert (answer.status, await answer.text()) == (405, "method not allowed\n")
                assert answer.headers["Allow"] == "POST"
                assert "Server" not in answer.headers
        root = service.url.removesuffix("/webhooks/clerk")
        for path in (
            "/",
            "/webhooks/clerk/",
            "/webhooks",
            "/metrics",
            "/livez",
            "/readyz",
            "/webhooks/clerk/../metrics",
        ):
            for method in ("GET", "POST"):
                async with service.session.request(
                    method, root + path, data=signed.body, headers=signed.headers()
                ) as answer:
                    assert (answer.status, await answer.text()) == (404, "not found\n"), path
        assert nothing_written(database)


async def test_health_and_metrics_are_on_their_own_port_and_nothing_else_is(database: Database, tmp_path: Path) -> None:
    async with WebhookService(database, folder=tmp_path) as service:
        assert await service.health("/livez") == (200, "ok\n")
        assert await service.health("/readyz") == (200, "ok\n")
        status, text = await service.health("/metrics")
        assert status == 200
        assert "nexus_auth_webhook_last_verified_event_timestamp_seconds 0.0" in text
        signed = Signed(event("user.created", user("user_ada")))
        async with service.session.post(
            service.health_url + "/webhooks/clerk", data=signed.body, headers=signed.headers()
        ) as answer:
            assert answer.status == 404
        before = datetime.now(UTC).timestamp()
        await service.post(signed)
        last = await service.metric("nexus_auth_webhook_last_verified_event_timestamp_seconds")
        assert before <= last <= before + 60


async def test_a_compressed_body_is_what_it_is_and_not_unpacked(database: Database, tmp_path: Path) -> None:
    body = event("user.created", user("user_ada"))
    packed = gzip.compress(body)
    async with WebhookService(database, folder=tmp_path) as service:
        headers = Signed(body).headers() | {"Content-Encoding": "gzip"}
        assert (await service.send(packed, headers))[0] == 400
        bomb = gzip.compress(b" " * 50 * MEGABYTE)
        assert (await service.send(bomb, headers))[0] == 400
        assert nothing_written(database)
        assert await service.send(body, headers) == (204, "")


async def test_a_slow_body_is_given_up_and_a_broken_one_is_no_news(database: Database, tmp_path: Path) -> None:
    signed = Signed(event("user.created", user("user_ada")))
    async with WebhookService(database, folder=tmp_path, NEXUS_AUTH_BODY_TIMEOUT="0.2") as service:
        async with Wire(service.url) as wire:
            await wire.send(wire.head(signed.headers() | {"Content-Length": str(len(signed.body))}) + signed.body[:100])
            answer = await wire.answer()
            assert (answer.status, answer.text) == (408, "request timeout\n")
            assert answer.headers["connection"] == "close"
        async with Wire(service.url) as wire:
            await wire.send(wire.head(signed.headers() | {"Transfer-Encoding": "chunked"}) + b"5\r\nhello\r\nzz\r\n")
            assert (await wire.answer()).status == 400
        for _ in range(3):
            async with Wire(service.url) as wire:
                await wire.send(wire.head(signed.headers() | {"Content-Length": "500"}) + b"cut off")
        assert await service.metric(f'{REJECTED}{{reason="slow_body"}}') == 1

        async def noticed() -> bool:
            return await service.metric(f'{REJECTED}{{reason="broken_body"}}') >= 3

        await until(noticed)
        assert await service.post(signed) == (204, "")
        assert "traceback" not in service.log.read_text()


async def test_noise_that_is_no_http_is_answered_and_not_logged(database: Database, tmp_path: Path) -> None:
    async with WebhookService(database, folder=tmp_path) as service:
        await service.logged("inbox maintained")  # the last that a start says
        before = service.log.stat().st_size
        for noise in (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
            b"POST /webhooks/clerk HTTP/1.1\r\nHost: x\r\nsvix-id : a\r\n\r\n",
            b"POST /webhooks/clerk HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
            b"POST /webhooks/clerk HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
            b"POST /webhooks/clerk HTTP/1.1\r\nHost: x\r\nsvix-id: " + b"a" * 100_000 + b"\r\n\r\n",
        ):
            async with Wire(service.url) as wire:
                await wire.send(noise)
                assert (await wire.answer()).status == 400
        assert service.log.stat().st_size == before
        assert await service.post(Signed(event("user.created", user("user_ada")))) == (204, "")


async def test_who_promises_a_body_and_sends_none_takes_nothing_from_the_others(
    database: Database, tmp_path: Path
) -> None:
    async with WebhookService(database, folder=tmp_path, NEXUS_AUTH_MAX_READING_BYTES=str(MEGABYTE)) as service:
        idle = [Wire(service.url) for _ in range(20)]
        for wire in idle:
            await wire.__aenter__()
            await wire.send(wire.head({"Content-Length": str(MEGABYTE), "svix-id": "x"}) + b"{")
        assert await service.post(Signed(event("user.created", user("user_ada")))) == (204, "")
        for wire in idle[:2]:
            await wire.send(b" " * 600_000)
        refused = [asyncio.create_task(wire.answer()) for wire in idle[:2]]
        done, _ = await asyncio.wait(refused, return_when=asyncio.FIRST_COMPLETED, timeout=20)
        answer = done.pop().result()
        assert (answer.status, answer.text) == (503, "service unavailable\n")
        assert "retry-after" in answer.headers
        for task in refused:
            task.cancel()
        for wire in idle:
            await wire.__aexit__()
        assert await service.post(Signed(event("user.created", user("user_eve")))) == (204, "")


@pytest.mark.parametrize("timestamp", [T0, T0 // 1000, T0 / 1000, float(T0)])
async def test_the_time_of_an_event_is_read_in_seconds_and_in_milliseconds(
    database: Database, tmp_path: Path, timestamp: int
) -> None:
    async with WebhookService(database, folder=tmp_path) as service:
        for name, plant in (("user_plain", "x"), ("user_suspect", "\x00")):
            body = event("user.created", user(name, first_name=plant), timestamp=timestamp)
            assert await service.post(Signed(body)) == (204, "")
        assert rows(database, "select distinct observed_at from clerk_private.objects") == [(T0,)]
        assert rows(database, "select distinct observed_at from clerk_private.inbox") == [(T0,)]


async def test_an_event_without_a_time_or_an_instance_is_taken(database: Database, tmp_path: Path) -> None:
    async with WebhookService(database, folder=tmp_path) as service:
        body = json.dumps({"data": user("user_ada"), "type": "user.created"}).encode()
        assert await service.post(Signed(body)) == (204, "")
        assert rows(database, "select observed_at, instance_id, outcome from clerk_private.inbox") == [
            (0, None, "created")
        ]


async def test_the_headers_are_kept_as_received(database: Database, tmp_path: Path) -> None:
    signed = Signed(event("user.deleted", deleted("user", "user_ada")))
    headers = signed.headers(at=datetime.now(UTC) - timedelta(seconds=100))
    headers["svix-signature"] = f"v1a,AAAA {headers['svix-signature']} v1,{'A' * 43}="
    async with WebhookService(database, folder=tmp_path) as service:
        assert await service.send(signed.body, headers) == (204, "")
    assert rows(database, "select svix_id, svix_timestamp, signature from clerk_private.inbox") == [
        (headers["svix-id"], headers["svix-timestamp"], headers["svix-signature"])
    ]


async def test_every_id_that_an_event_speaks_of_is_noted(database: Database, tmp_path: Path) -> None:
    ids = {name: f"{name}_0123456789abcdef" for name in ("orgmem", "org", "user")}
    founder = "user_founder0123456789"
    data = membership(ids["orgmem"], organization_id=ids["org"], user_id=ids["user"])
    data["organization"]["created_by"] = founder
    async with WebhookService(database, folder=tmp_path) as service:
        await service.post(Signed(event("organizationMembership.created", data)))
        await service.post(Signed(event("organizationMembership.updated", data | {"role": "\x00"})))
        await service.post(Signed(event("organization.updated", organization(ids["org"], created_by=founder))))
    noted = [
        set(subjects) for (subjects,) in rows(database, "select subjects from clerk_private.inbox order by svix_id")
    ]
    assert noted == [{*ids.values(), founder}, {*ids.values(), founder}, {ids["org"], founder}]
