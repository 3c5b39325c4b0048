"""Input that means harm: forged requests by the thousand, JSON that breaks databases, poison amid a batch."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest

from devtools.postgres import Database, fetch
from tests.events import OTHER_SECRET, T0, Signed, event, membership, organization, user
from tests.service import WebhookService
from tests.wire import until

MUTATIONS = 10_000
CONNECTIONS = 64

Request = tuple[bytes, dict[str, str]]


def rows(database: Database, query: str, *arguments: object) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in fetch(database.admin_url, query, *arguments)]


def flipped(text: str, dice: random.Random) -> str:
    at = dice.randrange(len(text))
    return text[:at] + dice.choice([c for c in "AZaz09+/=,. v1-_~é\u0660" if c != text[at]]) + text[at + 1 :]


def mutated(good: list[Signed], dice: random.Random) -> Request:
    """One request that nobody signed."""
    signed, other = dice.sample(good, 2)
    body, headers = signed.body, signed.headers()
    names = ["svix-id", "svix-timestamp", "svix-signature"]
    name = dice.choice(names)
    signature = headers["svix-signature"]

    def bit() -> Request:
        at = dice.randrange(len(body))
        return body[:at] + bytes([body[at] ^ (1 << dice.randrange(8))]) + body[at + 1 :], headers

    def header(value: str) -> Request:
        return body, {**headers, name: value}

    def only_signature(value: str) -> Request:
        return body, {**headers, "svix-signature": value}

    kinds: list[Callable[[], Request]] = [
        bit,
        lambda: (body[: dice.randrange(len(body))], headers),
        lambda: (body + dice.choice([b" ", b"\n", b"\x00", b"}", body]), headers),
        lambda: (dice.choice([b"\xef\xbb\xbf", b" ", b"{}"]) + body, headers),
        lambda: (b"", headers),
        lambda: (other.body, headers),
        lambda: (body, {**headers, "svix-id": other.svix_id}),
        lambda: only_signature(other.headers()["svix-signature"]),
        lambda: (body, signed.headers(secret=OTHER_SECRET)),
        lambda: header(flipped(headers[name], dice)),
        lambda: header(headers[name][: dice.randrange(len(headers[name]))]),
        lambda: header(headers[name] + dice.choice("09aA.,=+/")),
        lambda: header(
            dice.choice(["", "0", "-1", "nan", "inf", "1e9", "null", "%00", "v1,", "v1,=", "ü" * 9, "A" * 6_000])
        ),
        lambda: (body, {key: value for key, value in headers.items() if key != name}),
        lambda: (body, {**headers, "svix-timestamp": str(int(headers["svix-timestamp"]) + dice.choice([-1, 1, 60]))}),
        lambda: (
            body,
            {**headers, "svix-timestamp": headers["svix-timestamp"] + dice.choice([".0", ".9", "e0", "_0"])},
        ),
        lambda: (body, {**headers, "svix-timestamp": str(dice.randrange(2**63))}),
        lambda: only_signature(signature.replace("v1,", dice.choice(["v1a,", "v2,", "V1,", "v1", "v1,,", "v1;", ","]))),
        lambda: only_signature(signature.swapcase()),
        lambda: only_signature(signature[:3] + signature[3:][::-1]),
        lambda: only_signature(signature.replace(",", ", ")),
        lambda: only_signature(" ".join(f"v1,{dice.randbytes(32).hex()}" for _ in range(40))),
        lambda: (
            body,
            {key.replace("svix-", dice.choice(["svix_", "x-svix-", "svix"])): v for key, v in headers.items()},
        ),
        lambda: (body, {**headers, "svix-id": f"{signed.svix_id}.{headers['svix-timestamp']}"}),
    ]
    return dice.choice(kinds)()


async def answers(
    service: WebhookService, requests: list[Request], *, connections: int = CONNECTIONS
) -> list[tuple[int, str]]:
    """Sends all of them over a few connections that are kept alive, and answers in the same order."""
    left = iter(enumerate(requests))
    heard: list[tuple[int, str]] = [(0, "")] * len(requests)

    async def worker(session: aiohttp.ClientSession) -> None:
        for number, (body, headers) in left:
            async with session.post(service.url, data=body, headers=headers) as answer:
                heard[number] = (answer.status, await answer.text())

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(worker(session) for _ in range(connections)))
    return heard


@pytest.mark.timeout(600)
async def test_of_ten_thousand_mutated_requests_none_is_accepted(database: Database, tmp_path: Path) -> None:
    dice = random.Random(20_261_125)
    good = [
        Signed(event("user.created", user(f"user_{number}", email=f"{number}@example.com"))) for number in range(20)
    ]
    async with WebhookService(database, folder=tmp_path, NEXUS_AUTH_LOG_EVENTS=None) as service:
        log = service.log.stat().st_size
        heard = await answers(service, [mutated(good, dice) for _ in range(MUTATIONS)])
        wrong = {answer for answer in heard if answer != (400, "the request could not be verified\n")}
        assert wrong == set()
        written = (
            "select (select count(*) from clerk_private.inbox_seen) + (select count(*) from clerk_private.objects)"
        )
        assert rows(database, written) == [(0,)]
        assert service.log.stat().st_size - log < 2_000
        unmutated = [(signed.body, signed.headers()) for signed in good]
        assert await answers(service, unmutated) == [(204, "")] * len(good)
        assert rows(database, "select count(*) from clerk.users") == [(len(good),)]


PITFALLS: dict[str, tuple[str, Any]] = {
    # what stands in the JSON, and what a reader of jsonb must find; ... where the value is only asked to be there
    "nul": (r'"x\u0000y"', "x\ufffdy"),
    "escaped nul that is text": (r'"x\\u0000y"', r"x\u0000y"),
    "escaped nul behind a backslash": (r'"x\\\u0000y"', "x\\\ufffdy"),
    "lone high surrogate": (r'"\ud800"', "\ufffd"),
    "lone low surrogate": (r'"\udc00x"', "\ufffdx"),
    "surrogates in the wrong order": (r'"\ude00\ud83d"', "\ufffd\ufffd"),
    "pair of surrogates": (r'"\ud83d\ude00"', "\U0001f600"),
    "capital surrogates": (r'"\uD83D\uDE00\uDBFF"', "\U0001f600\ufffd"),
    "harmless escapes": (r'"\u003ca\u003e\u0026\u2028"', "<a>&\u2028"),
    "what is no character": ('"\uffff\U0010ffff\ue000"', "\uffff\U0010ffff\ue000"),
    "direction marks": ('"\u202e\u200f\u0301"', "\u202e\u200f\u0301"),
    "2^53 + 1": ("9007199254740993", 9007199254740993),
    "2^63": ("9223372036854775808", 9223372036854775808),
    "2^64": ("18446744073709551616", "18446744073709551616"),
    "forty digits": ("1" * 40, "1" * 40),
    "five thousand digits": ("-" + "7" * 5_000, "-" + "7" * 5_000),
    "hundred thousand digits": ("3" * 100_000, "3" * 100_000),
    "1e400": ("1e400", None),
    "-1E+400": ("-1E+400", None),
    "1e131072": ("1e131072", None),
    "1e-400": ("1e-400", 0),
    "too small for anything": ("1e-99999999999999999999", 0),
    "smallest": ("5e-324", ...),
    "trailing zero": ("1.10", 1.1),
    "nineteen digits of a fraction": ("0.1234567890123456789", ...),
    "a thousand digits of a fraction": ("0." + "3" * 1_000, ...),
    "minus nothing": ("-0", 0),
    "minus nothing, broken": ("-0.0", 0),
    "depth 1,000": ("[" * 1_000 + "]" * 1_000, ...),
    "depth 100,000": ('{"a":' * 100_000 + "1" + "}" * 100_000, ...),
    "brackets in a text": (json.dumps("[{" * 5_000), "[{" * 5_000),
    "same name twice": ('{"a":1,"a":2}', {"a": 2}),
    "name with nul": (r'{"a\u0000b":1}', {"a\ufffdb": 1}),
    "names that meet once made safe": (r'{"a\u0000":1,"a\ud800":2}', {"a\ufffd": 2}),
    "empty name": ('{"":{"":[]}}', {"": {"": []}}),
    "reserved names": ('{"__proto__":1,"constructor":2}', {"__proto__": 1, "constructor": 2}),
    "long name": ('{"' + "k" * 10_000 + '":1}', {"k" * 10_000: 1}),
    "long text": (json.dumps("ü" * 50_000, ensure_ascii=False), "ü" * 50_000),
    "SQL": (json.dumps("'); drop table clerk.users; --"), "'); drop table clerk.users; --"),
    "composite": (json.dumps('(1,"2\\",{}")'), '(1,"2\\",{}")'),
    "nothing": ("null", None),
}
"""What is written into an event, and what is to be found."""

NO_JSON = {
    "not a number": "NaN",
    "infinity": "-Infinity",
    "comma behind the last": '{"a":1,}',
    "raw control character": '"a\tb"',
    "half an escape": r'"\u12"',
    "leading zero": "012",
}
"""What Clerk cannot send; it is parked or read leniently, and nothing else suffers."""


def with_value(user_id: str, place: str, value: str, *, updated_at: int) -> bytes:
    """A user event with these very characters at a place."""
    mark = "here it goes"
    data = user(user_id, updated_at=updated_at)
    data[place] = mark if place.endswith("_name") else {"before": 1, "planted": mark, "behind": 2}
    return event("user.updated", data).replace(json.dumps(mark).encode(), value.encode("utf-8"))


@pytest.mark.parametrize("place", ["first_name", "public_metadata", "unsafe_metadata", "private_metadata"])
async def test_whatever_a_user_plants_the_row_is_right_and_his_next_event_works(
    database: Database, tmp_path: Path, place: str
) -> None:
    cases = {
        case: (value, found)
        for case, (value, found) in PITFALLS.items()
        if place != "first_name" or value.startswith('"') or value == "null"
    }
    first = {
        case: Signed(with_value(f"user_{n}", place, cases[case][0], updated_at=T0)) for n, case in enumerate(cases)
    }
    then = [
        Signed(event("user.updated", user(f"user_{n}", updated_at=T0 + 1, first_name="Then")))
        for n in range(len(cases))
    ]
    column = {"first_name": "to_jsonb(u.first_name)", "public_metadata": "u.public_metadata -> 'planted'"}.get(
        place, f"o.raw -> '{place}' -> 'planted'"
    )
    query = f"""select i.state, i.outcome, i.body = $2, i.body_hmac is null, ({column})::text
        from clerk_private.inbox i join clerk_private.objects o on o.id = i.object_id join clerk.users u on u.id = o.id
        where i.svix_id = $1"""
    async with WebhookService(database, folder=tmp_path) as service:
        for case, signed in first.items():
            assert await service.post(signed) == (204, ""), case
        for case, signed in first.items():
            ((state, outcome, as_signed, verifiable, text),) = rows(database, query, signed.svix_id, signed.body)
            assert (state, outcome, as_signed, verifiable) == ("applied", "created", True, True), case
            expected = cases[case][1]
            found = None if text is None else json.loads(text)
            assert found == expected if expected is not ... else found is not None, case
        for signed in then:
            assert await service.post(signed) == (204, "")
        assert rows(
            database, "select distinct first_name, updated_at = clerk_private.ms($1) from clerk.users", T0 + 1
        ) == [("Then", True)]
        assert rows(database, "select count(*) from clerk_private.parked") == [(0,)]
        assert await service.metric("nexus_auth_webhook_batch_failures_total") == 0


async def test_what_is_no_json_hurts_nobody_else(database: Database, tmp_path: Path) -> None:
    sent = {
        case: Signed(with_value("user_ada", "public_metadata", value, updated_at=T0)) for case, value in NO_JSON.items()
    }
    sent["byte order mark"] = Signed(b"\xef\xbb\xbf" + event("user.created", user("user_mark")))
    sent["empty"] = Signed(b"")
    async with WebhookService(database, folder=tmp_path) as service:
        for case, signed in sent.items():
            assert await service.post(signed) == (204, ""), case
        bodies = dict(rows(database, "select svix_id, body from clerk_private.inbox"))
        assert {case: bodies[signed.svix_id] for case, signed in sent.items()} == {c: s.body for c, s in sent.items()}
        states = dict(rows(database, "select svix_id, state from clerk_private.inbox"))
        parked = {case for case, signed in sent.items() if states[signed.svix_id] == "parked"}
        assert parked == {"comma behind the last", "raw control character", "half an escape", "leading zero", "empty"}
        later = Signed(event("user.updated", user("user_ada", updated_at=T0 + 1, first_name="Then")))
        assert await service.post(later) == (204, "")
    assert set(rows(database, "select id, first_name from clerk.users")) == {("user_ada", "Then"), ("user_mark", "Ada")}


async def test_other_kinds_take_the_same_poison(database: Database, tmp_path: Path) -> None:
    poison = {"a": "\x00", "b": "\ud800", "c\x00": 2**70}
    safe = {"a": "\ufffd", "b": "\ufffd", "c\ufffd": str(2**70)}
    async with WebhookService(database, folder=tmp_path) as service:
        for body in (
            event("organization.created", organization("org_1", name="\x00", public_metadata=poison)),
            event(
                "organizationMembership.created",
                membership("orgmem_1", organization_id="org_1", user_id="user_1", public_metadata=poison),
            ),
            event("session.created", {"id": "sess_\x00", "poison": poison}),
            event("galaxy\x00.created", poison, instance_id=None),
        ):
            assert await service.post(Signed(body)) == (204, "")
    assert [
        (name, json.loads(metadata))
        for name, metadata in rows(
            database,
            "select name, public_metadata from clerk.organizations"
            " union all select role, public_metadata from clerk.organization_memberships",
        )
    ] == [("\ufffd", safe), ("org:member", safe)]
    assert {row[0] for row in rows(database, "select state from clerk_private.inbox")} == {"applied", "waiting", "kept"}


async def test_events_of_350_kilobytes_are_stored_many_at_once(database: Database, tmp_path: Path) -> None:
    dice = random.Random(350)
    big = [
        Signed(event("user.created", user(f"user_{n}", public_metadata={"x": dice.randbytes(170_000).hex()})))
        for n in range(40)
    ]
    suspect = [
        Signed(event("user.created", user(f"user_s{n}", unsafe_metadata={"x": ["\x00" * 5_000, "[" * 300_000]})))
        for n in range(10)
    ]
    async with WebhookService(database, folder=tmp_path) as service:
        assert await answers(service, [(s.body, s.headers()) for s in big + suspect]) == [(204, "")] * 50
    stored = dict(rows(database, "select svix_id, body from clerk_private.inbox"))
    assert stored == {signed.svix_id: signed.body for signed in big + suspect}
    assert rows(database, "select count(*), max(length(public_metadata ->> 'x')) from clerk.users") == [(50, 340_000)]


def poisoned(number: int) -> dict[str, Any]:
    """What Python lets pass and SQL refuses."""
    kinds: list[dict[str, Any]] = [
        {"banned": "maybe"},
        {"created_at": 10**18},
        {"created_at": None},
        {"email_addresses": "none"},
        {"last_sign_in_at": "yesterday"},
    ]
    return kinds[number % len(kinds)]


@pytest.mark.timeout(300)
async def test_ten_poison_events_among_five_hundred_are_parked_and_the_others_applied(
    database: Database, tmp_path: Path
) -> None:
    failpoints = tmp_path / "failpoints"
    failpoints.mkdir()
    (failpoints / "ingest.gathered").touch()
    poison = set(range(25, 500, 50))
    batch = [
        Signed(event("user.created", user(f"user_{n}") | (poisoned(n // 50) if n in poison else {})))
        for n in range(500)
    ]
    async with WebhookService(
        database,
        folder=tmp_path,
        NEXUS_AUTH_LANES="1",
        NEXUS_AUTH_BATCH_ROWS="500",
        NEXUS_AUTH_FAILPOINTS_DIR=str(failpoints),
        NEXUS_AUTH_LOG_EVENTS=None,
    ) as service:
        first = asyncio.create_task(service.post(Signed(event("user.created", user("user_first")))))

        async def reached() -> bool:
            return bool(list(failpoints.glob("ingest.gathered.*.reached")))

        await until(reached)
        sending = asyncio.create_task(
            answers(service, [(signed.body, signed.headers()) for signed in batch], connections=500)
        )

        async def gathered() -> bool:
            return await service.metric("nexus_auth_webhook_queued_events") == 500

        await until(gathered)
        (failpoints / "ingest.gathered").unlink()
        assert await first == (204, "")
        assert await sending == [(204, "")] * 500
        assert await service.metric('nexus_auth_webhook_batch_rows_bucket{le="256.0"}') < await service.metric(
            'nexus_auth_webhook_batch_rows_bucket{le="512.0"}'
        )
        assert await service.metric("nexus_auth_webhook_batch_failures_total") == 0
    ids = {svix_id for (svix_id,) in rows(database, "select svix_id from clerk_private.parked")}
    assert ids == {batch[n].svix_id for n in poison}
    assert dict(rows(database, "select state, count(*) from clerk_private.inbox group by 1")) == {
        "applied": 491,
        "parked": 10,
    }
    assert rows(database, "select count(*) from clerk.users") == [(491,)]
    errors = {error for (error,) in rows(database, "select error from clerk_private.parked")}
    assert not [error for error in errors if "maybe" in error or "yesterday" in error]


@asynccontextmanager
async def holding(database: Database, lock: int) -> AsyncIterator[None]:
    """Holds an advisory lock."""
    connection = await asyncpg.connect(database.admin_url)
    try:
        await connection.execute(f"select pg_advisory_lock({lock})")
        yield
    finally:
        await connection.close()


async def test_who_poisons_again_goes_alone_and_delays_nobody(database: Database, tmp_path: Path) -> None:
    lock = 4_711
    async with WebhookService(database, folder=tmp_path, NEXUS_AUTH_LANES="1") as service:
        assert await service.post(Signed(event("user.created", user("user_eve", banned="maybe")))) == (204, "")
        # From now on whatever concerns eve waits for a lock that this test holds.
        fetch(
            database.admin_url,
            f"""do $do$ begin
              create function public.wait_for_test() returns trigger language plpgsql as
              $$ begin perform pg_advisory_xact_lock({lock}); return new; end $$;
              grant execute on function public.wait_for_test() to public;
              create trigger wait_for_test before insert on clerk_private.inbox_seen
                for each row when (new.svix_id like 'msg_eve%') execute function public.wait_for_test();
            end $do$""",
        )
        async with holding(database, lock):
            again = [
                asyncio.create_task(
                    service.post(Signed(event("user.updated", user("user_eve", banned="maybe")), f"msg_eve{number}"))
                )
                for number in range(3)
            ]

            async def waits() -> bool:
                query = "select count(*) from pg_locks where locktype = 'advisory' and objid = $1 and not granted"
                return rows(database, query, lock) == [(1,)]

            await until(waits)
            for number in range(20):
                assert await service.post(Signed(event("user.created", user(f"user_{number}")))) == (204, "")
            assert not any(task.done() for task in again)
        assert await asyncio.gather(*again) == [(204, "")] * 3
        good = Signed(event("user.updated", user("user_eve", updated_at=T0 + 5)))
        assert await service.post(good) == (204, "")
    assert rows(database, "select count(*) from clerk.users where id = 'user_eve'") == [(1,)]
    assert rows(database, "select count(*) from clerk_private.parked") == [(4,)]
