"""`python -m bench.floor`: the same requests at the same concurrency by a client that only reads and discards.

No sweep can be faster than that beside this Clerk on this machine. Stages follow each other, lanes of a stage go on
beside each other, the requests of a lane one after the other: as the engine's walkers went.
"""

import asyncio
import sys
import time
from collections.abc import Iterable, Sequence
from urllib.parse import parse_qs

import aiohttp
import msgspec
import uvloop

from nexus_auth.clerk.api import API_VERSION

Stage = list[list[str]]
"""Lanes of paths with their queries."""


class Order(msgspec.Struct, frozen=True):
    """What to read."""

    url: str
    secret_key: str
    stages: list[Stage]


class Outcome(msgspec.Struct, frozen=True):
    """From the first request to the last byte."""

    requests: int
    bytes: int
    seconds: float
    cpu_seconds: float


def stages_of(log: Iterable[tuple[str, str]]) -> list[Stage]:
    """A sweep's requests (path and query, in the order of their arrival) as stages.

    Walkers are told apart by the end of their window; what has no window was asked by nobody else meanwhile.
    """
    stages: list[dict[str, list[str]]] = []
    for path, query in log:
        window = parse_qs(query).get("created_at_before", [""])[0]
        if not window or not stages or "" in stages[-1]:
            stages.append({})
        stages[-1].setdefault(window, []).append(f"{path}?{query}" if query else path)
    return [list(stage.values()) for stage in stages]


async def read(order: Order) -> Outcome:
    """Reads everything. Raises `aiohttp.ClientError` for an answer that is an error."""
    requests = total = 0
    headers = {"Authorization": f"Bearer {order.secret_key}", "Clerk-API-Version": API_VERSION}
    async with aiohttp.ClientSession(headers=headers, raise_for_status=True) as session:

        async def follow(lane: Sequence[str]) -> None:
            nonlocal requests, total
            for path in lane:
                async with session.get(order.url + path) as answer:
                    async for piece in answer.content.iter_any():
                        total += len(piece)
                requests += 1

        wall, cpu = time.perf_counter(), time.process_time()
        for stage in order.stages:
            async with asyncio.TaskGroup() as lanes:
                for lane in stage:
                    lanes.create_task(follow(lane))
        return Outcome(requests, total, time.perf_counter() - wall, time.process_time() - cpu)


if __name__ == "__main__":
    outcome = uvloop.run(read(msgspec.json.decode(sys.stdin.buffer.read(), type=Order)))
    sys.stdout.buffer.write(msgspec.json.encode(outcome))
