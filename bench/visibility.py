"""How long a user of the product waits: from the emulator's sending an event to the row that an application can read.

Everything is a process of its own, as in `make run`. The emulator is told of changed users at an even rate, whatever
the answers do (an open loop: a slow receiver cannot slow the load down, and so cannot flatter itself); by its control
address, because its API holds to Clerk's request limits.

Visible means read: a connection as `service_role` asks for the rows that are outstanding, again and again. Both ends
are rounded against us: the emulator notes its sending in whole ms, cut off, and a row counts when its answer has come.
"""

import asyncio
import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from bench import checks
from bench.emulator import API_KEY, emulator
from bench.percentiles import percentiles
from devtools.postgres import Database, ForeignServer, Server, create_database, drop_database
from tests.service import WebhookService

PAUSE = 0.001
"""Seconds between two looks; more often, and looking would take the CPU that is measured."""

PATIENCE = 20.0
"""Seconds after the last change until what is not visible counts as lost."""

_WARM = 50
"""Changes before the clock starts."""

Json = dict[str, Any]

LOOK = "select id from clerk.users where id = any ($1::text[])"


@dataclass(frozen=True, slots=True)
class Visibility:
    """Times in ms from sending to reading."""

    events: int
    wanted: float
    """Events a second that were to be sent."""
    rate: float
    """Events a second that were really sent."""
    p50: float
    p95: float
    p99: float
    slowest: float
    look_ms: float
    """How far apart two looks were, in the middle."""


async def measure(
    server: Server | ForeignServer,
    template: Database,
    *,
    folder: Path,
    rate: float,
    seconds: float,
    progress: Callable[[int], None] = lambda _: None,
) -> Visibility:
    """Changes `rate` users a second for `seconds`. Raises `checks.Wrong` where one does not become visible."""
    name = f"bench_{secrets.token_hex(4)}"
    create_database(server.admin_url(), name, template=template.name)
    database = template.of(name)
    count = int(rate * seconds)
    try:
        async with (
            WebhookService(database, folder=folder, NEXUS_AUTH_LOG_EVENTS=None) as service,
            emulator(
                *("--users", str(count + _WARM), "--organizations", "0", "--memberships", "0"),
                folder=folder,
                endpoints=(service.url,),
            ) as clerk,
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {API_KEY}"}) as api,
        ):
            address = clerk.url
            users = await _users(api, address, count=count + _WARM)
            reader = await asyncpg.connect(database.admin_url)
            await reader.execute("set role service_role")
            try:
                await _drive(api, address, reader, users=users[:_WARM], rate=rate)
                looked = await _drive(api, address, reader, users=users[_WARM:], rate=rate, progress=progress)
            finally:
                await reader.close()
            sent = await _sent(api, address, count=len(users))
            await service.stop()
    finally:
        drop_database(server.admin_url(), name)
    return _figures(sent, looked, wanted=rate)


@dataclass(frozen=True, slots=True)
class _Looked:
    """When each user was read first (s since the epoch), and the moments of all looks."""

    seen: Mapping[str, float]
    moments: list[float]


async def _drive(
    api: aiohttp.ClientSession,
    address: str,
    reader: Any,
    *,
    users: list[Json],
    rate: float,
    progress: Callable[[int], None] = lambda _: None,
) -> _Looked:
    """Changes users, one every 1/`rate` s, and looks for their rows until all are there."""
    outstanding: dict[str, None] = {}
    seen: dict[str, float] = {}
    moments: list[float] = []

    async def change(user: Json) -> None:
        event = {"type": "user.updated", "data": user}
        async with api.post(f"{address}/_emulator/events", json=event) as answer:
            if answer.status != 202:
                raise checks.Wrong(f"the emulator answered {answer.status}: {(await answer.text())[:200]}")

    async def change_all() -> None:
        began = time.monotonic()
        async with asyncio.TaskGroup() as changes:
            for number, user in enumerate(users):
                await asyncio.sleep(max(began + number / rate - time.monotonic(), 0))
                outstanding[user["id"]] = None
                changes.create_task(change(user))

    changing = asyncio.create_task(change_all())
    deadline = time.monotonic() + len(users) / rate + PATIENCE
    while len(seen) < len(users):
        if changing.done() and changing.exception() is not None:
            await changing
        if time.monotonic() > deadline:
            changing.cancel()
            raise checks.Wrong(f"{len(users) - len(seen)} of {len(users)} changes did not become visible")
        rows = await reader.fetch(LOOK, list(outstanding))
        now = time.time()
        moments.append(now)
        for row in rows:
            seen[row["id"]] = now
            del outstanding[row["id"]]
        if rows:
            progress(len(seen))
        await asyncio.sleep(PAUSE)
    await changing
    return _Looked(seen, moments)


async def _users(api: aiohttp.ClientSession, address: str, *, count: int) -> list[Json]:
    users: list[Json] = []
    while len(users) < count:
        query = {"limit": "500", "offset": str(len(users))}
        async with api.get(f"{address}/v1/users", params=query) as answer:
            page = await answer.json()
        if not page:
            raise checks.Wrong(f"the emulator has {len(users)} users, not {count}")
        users += page
    return users[:count]


async def _sent(api: aiohttp.ClientSession, address: str, *, count: int) -> dict[str, float]:
    """When the emulator began to send each user's event (s since the epoch); a second attempt is a failure."""
    # a row can be seen before the emulator has noted the answer to its event
    async with api.get(f"{address}/_emulator/idle", params={"timeout": "30"}) as idle:
        if idle.status != 200:
            raise checks.Wrong("the emulator still delivers 30 s after the last row was seen")
    query = {"type": "user.updated", "limit": str(count), "body": "1"}
    async with api.get(f"{address}/_emulator/messages", params=query) as answer:
        messages = (await answer.json())["data"]
    sent: dict[str, float] = {}
    for message in messages:
        attempts = message["deliveries"][0]["attempts"]
        if [attempt["status"] for attempt in attempts] != [204]:
            raise checks.Wrong(f"an event was delivered so: {attempts}")
        sent[_subject(message["body"])] = attempts[0]["at_ms"] / 1000
    return sent


def _subject(body: str) -> str:
    return str(json.loads(body)["data"]["id"])


def _figures(sent: Mapping[str, float], looked: _Looked, *, wanted: float) -> Visibility:
    waits = [(moment - sent[user_id]) * 1000 for user_id, moment in looked.seen.items()]
    began = sorted(sent[user_id] for user_id in looked.seen)
    cuts = percentiles(waits)
    gaps = [(b - a) * 1000 for a, b in zip(looked.moments, looked.moments[1:], strict=False)]
    return Visibility(
        events=len(waits),
        wanted=wanted,
        rate=(len(began) - 1) / (began[-1] - began[0]),
        p50=cuts[50],
        p95=cuts[95],
        p99=cuts[99],
        slowest=max(waits),
        look_ms=percentiles(gaps)[50],
    )
