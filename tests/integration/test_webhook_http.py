"""What is no HTTP, and who holds connections: one line that says nothing, and nobody else has to wait."""

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from devtools.postgres import Database
from tests.events import Signed, event, user
from tests.service import WebhookService
from tests.wire import Wire, until

MARK = b"planted7F3a"
"""In everything that is sent; nothing of it may come back."""

VERIFIED = "the request could not be verified\n"
HEAD = b"POST /webhooks/clerk HTTP/1.1\r\nHost: x\r\n"
MALFORMED: dict[str, bytes] = {
    "no HTTP": MARK + b"\r\n\r\n",
    "unknown method and no version": b"FOO /" + MARK + b"\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + MARK + b"\r\n\r\n",
    "header of 9 KB": HEAD + b"X-Long: " + MARK * 900 + b"\r\n\r\n",
    "path of 9 KB": b"POST /" + MARK * 900 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "NUL in a header": HEAD + b"X-Nul: a\x00" + MARK + b"\r\n\r\n",
    "NUL in a name": HEAD + b"X-\x00" + MARK + b": a\r\n\r\n",
    "header without a colon": HEAD + MARK + b"\r\n\r\n",
    "length that is no number": HEAD + b"Content-Length: " + MARK + b"\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n" + MARK,
    "length and chunks": HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n" + MARK,
    "chunk size that is no number": HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + MARK + b"\r\n",
    "bad chunk behind a good one": HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n" + MARK + b"\r\n\r\n",
    "unknown expectation": HEAD + b"Expect: " + MARK + b"\r\nContent-Length: 0\r\n\r\n",
    "version that is none": b"POST /webhooks/clerk HTTP/" + MARK + b"\r\n\r\n",
}


@pytest.mark.parametrize("port", ["public", "health"])
async def test_what_is_no_http_is_answered_with_a_line_that_says_nothing_and_logged_by_nobody(
    database: Database, tmp_path: Path, port: str
) -> None:
    async with WebhookService(database, folder=tmp_path) as service:
        url = service.url if port == "public" else service.health_url + "/metrics"
        path = urlsplit(url).path.encode()
        await service.logged("inbox maintained")  # the last line of a start
        before = service.log.stat().st_size
        for case, sent in MALFORMED.items():
            async with Wire(url) as wire:
                await wire.send(sent.replace(b"/webhooks/clerk", path))
                answer = await wire.answer()
            assert MARK.decode() not in repr(answer), case
            assert "server" not in answer.headers, case
            assert "aiohttp" not in repr(answer), case
            assert answer.status in (400, 417 if case == "unknown expectation" else 400), (case, answer)
            assert answer.text in ("bad request\n", "expectation failed\n", VERIFIED), (case, answer)
        assert await service.health("/livez") == (200, "ok\n")
        assert service.log.read_bytes()[before:] == b""
        async with service.session.get(service.health_url + "/nowhere") as nowhere:
            assert (nowhere.status, "Server" in nowhere.headers) == (404, False)


async def test_connections_that_fill_the_body_memory_slowly_cut_off_themselves_and_no_genuine_event(
    database: Database, tmp_path: Path
) -> None:
    most = 1_000_000
    slow = 129
    part = 100_000
    async with WebhookService(
        database,
        folder=tmp_path,
        NEXUS_AUTH_MAX_READING_BYTES=str(2**20 * 4),
        NEXUS_AUTH_BODY_TIMEOUT="60",
        NEXUS_AUTH_LOG_EVENTS=None,
    ) as service:
        wires = [Wire(service.url) for _ in range(slow)]
        try:
            for wire in wires:
                await wire.__aenter__()
                await wire.send(wire.head({"Content-Length": str(most)}))
            # Together three times what may be in memory; they send on for as long as genuine events come.
            for wire in wires:
                await wire.send(b"x" * part)

            async def fills() -> None:
                while True:
                    for wire in wires:
                        if not wire.writer.is_closing():
                            wire.writer.write(b"x" * 1_000)
                    await asyncio.sleep(0.01)

            filling = asyncio.create_task(fills())

            async def full() -> bool:
                return await service.metric('nexus_auth_webhook_rejected_total{reason="overloaded"}') >= slow // 2

            await until(full)
            for number in range(50):
                big = {"x": "y" * 300_000} if number % 10 == 0 else {}
                signed = Signed(event("user.created", user(f"user_{number}", public_metadata=big)))
                assert await service.post(signed) == (204, ""), number
            filling.cancel()
        finally:
            for wire in wires:
                wire.writer.close()


async def test_a_connection_that_sends_no_request_is_closed(database: Database, tmp_path: Path) -> None:
    async with WebhookService(database, folder=tmp_path) as service, Wire(service.url) as silent:
        async with Wire(service.url) as half:
            await half.send(b"POST /webhooks/clerk HTTP/1.1\r\nHost: x\r\nX-Half: ")
            async with asyncio.timeout(20):
                assert await silent.reader.read() == b""
                assert await half.reader.read() == b""
        assert await service.post(Signed(event("user.created", user("user_ada")))) == (204, "")
