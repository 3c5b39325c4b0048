"""The load: keep-alive connections that each send the next request as soon as the last was answered.

A process of its own, and a bare one: requests come ready-made from a file, answers are compared with the one that is
expected before anything is parsed. Its own CPU time is in what it reports, so that a reader sees who was the
bottleneck. `python -m bench.generator FILE PORT CONNECTIONS SECONDS FIRST COUNT` prints one JSON object.
"""

import asyncio
import itertools
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

import msgspec
import uvloop

from bench.workload import requests_of

GOOD = b"HTTP/1.1 204 "
END = b"\r\n\r\n"
PATIENCE = 30.0
"""Seconds without any answer after which nothing more is expected."""


class Outcome(msgspec.Struct):
    """What a run of the generator came to."""

    seconds: float
    """From the first request to the last answer."""
    cpu_seconds: float
    acknowledged: list[int]
    """Numbers of the requests that were answered 204."""
    others: dict[str, int]
    """Every other answer, by status or by what went wrong."""
    latencies_us: list[int]


class Load:
    """What the connections share."""

    def __init__(self, requests: Sequence[bytes], *, seconds: float, first: int, count: int) -> None:
        """Requests `first` to `first + count`, as many of them as `seconds` allow (0: all)."""
        self._requests = requests
        self._seconds = seconds
        self._numbers: Iterator[int] = iter(range(first, min(first + count, len(requests))))
        self._began = self._ended = 0
        self._busy: set[Connection] = set()
        self.done = asyncio.Event()
        self.acknowledged: list[int] = []
        self.latencies: list[int] = []
        self.others: Counter[str] = Counter()

    def begin(self, connections: "Sequence[Connection]") -> None:
        """Starts the clock and every connection."""
        self._began = time.perf_counter_ns()
        self._busy = set(connections)
        for connection in connections:
            self.go_on(connection)

    def go_on(self, connection: "Connection") -> None:
        """Gives a connection its next request, or lets it rest."""
        late = self._seconds and time.perf_counter_ns() - self._began > self._seconds * 1e9
        number = None if late else next(self._numbers, None)
        if number is None:
            self.rest(connection)
        else:
            connection.send(number, self._requests[number])

    def rest(self, connection: "Connection") -> None:
        """A connection has nothing more to do; the last one stops the clock."""
        self._busy.discard(connection)
        if not self._busy:
            self._ended = self._ended or time.perf_counter_ns()
            self.done.set()

    @property
    def answered(self) -> int:
        """Requests that are over, whatever the answer."""
        return len(self.acknowledged) + self.others.total()

    @property
    def seconds(self) -> float:
        """From the first request to the last answer."""
        return (self._ended - self._began) / 1e9


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, load: Load) -> None:
        """Belongs to a load."""
        self._load = load
        self._answer = b""
        self._number = -1
        self._sent = 0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Waits for `send`."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it

    def send(self, number: int, request: bytes) -> None:
        """Sends a request and takes the time."""
        assert self._transport is not None
        self._number = number
        self._sent = time.perf_counter_ns()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """An answer, whole as a rule; one with a body is told apart by its length."""
        now = time.perf_counter_ns()
        if self._answer:
            data = self._answer + data
        if data.startswith(GOOD) and data.endswith(END):
            self._load.acknowledged.append(self._number)
            self._load.latencies.append((now - self._sent) // 1000)
        elif not _complete(data):
            self._answer = data
            return
        else:
            self._load.others[data[9:12].decode("ascii", "replace")] += 1
        self._answer = b""
        self._number = -1
        self._load.go_on(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """A request without an answer counts as such; the connection is not made again."""
        if self._number >= 0:
            self._load.others[f"connection lost: {type(exc).__name__}"] += 1
        self._load.rest(self)


def _complete(answer: bytes) -> bool:
    head, found, body = answer.partition(END)
    if not found:
        return False
    length = next((line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b"0")
    return len(body) >= int(length)


async def run(file: Path, *, port: int, connections: int, seconds: float, first: int, count: int) -> Outcome:
    """Sends, and says what came of it. Raises OSError where nobody listens, TimeoutError where an answer is missing."""
    load = Load(list(requests_of(file)), seconds=seconds, first=first, count=count)
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(lambda: Connection(load), "127.0.0.1", port) for _ in range(connections)]
    spent = time.process_time()
    load.begin([connection for _, connection in made])
    answered = -1
    while not load.done.is_set():
        if load.answered == answered:
            raise TimeoutError(f"no answer for {PATIENCE:g} s")
        answered = load.answered
        with suppress(TimeoutError):
            await asyncio.wait_for(load.done.wait(), PATIENCE)
    spent = time.process_time() - spent
    for transport, _ in made:
        transport.close()
    return Outcome(load.seconds, spent, load.acknowledged, dict(load.others), load.latencies)


def main() -> None:
    """See the module."""
    file, port, connections, seconds, first, count = itertools.islice(sys.argv, 1, None)
    outcome = uvloop.run(
        run(
            Path(file),
            port=int(port),
            connections=int(connections),
            seconds=float(seconds),
            first=int(first),
            count=int(count),
        )
    )
    sys.stdout.buffer.write(msgspec.json.encode(outcome))


if __name__ == "__main__":
    main()
