"""Stands between the operator and the API server, and does what networks and servers do: cut, stall, refuse, expire."""

import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import yaml
from aiohttp import web

HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host", "content-encoding", "accept-encoding"}


@dataclass
class Rule:
    """Answers `status` instead of the server, to requests that `matches` picks, `times` times."""

    status: int
    matches: Callable[[web.Request], bool]
    times: int = 10**9
    used: int = 0


@dataclass
class Proxy:
    """On loopback, plain HTTP unless it has a certificate; usable as an async context manager."""

    admins: Path
    """The administrator's kubeconfig: where the server is."""
    certificate: Path | None = None
    """The API server's own, its key beside it."""
    rules: list[Rule] = field(default_factory=list)
    stalls: bool = False
    """Watches stay open and bring nothing more; what they would have brought is lost."""
    away: bool = False
    """Every connection is cut, old ones and new ones."""
    seen: list[str] = field(default_factory=list)
    """Method, path and status of every request."""

    async def __aenter__(self) -> Self:
        config = yaml.safe_load(self.admins.read_text())
        self._server = config["clusters"][0]["cluster"]["server"]
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=0), auto_decompress=False
        )
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        tls = None
        if self.certificate is not None:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(self.certificate, self.certificate.with_suffix(".key"))
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=tls).start()
        self.port = int(self._runner.addresses[0][1])
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.away = True
        self.cut()
        await self._session.close()
        await self._runner.cleanup()

    def cut(self) -> None:
        """Closes every connection as it is, without a word."""
        server = self._runner.server
        assert server is not None
        for connection in list(server.connections):
            if connection.transport is not None:
                connection.transport.abort()

    def refuse(self, status: int, *, times: int = 10**9, matches: Callable[[web.Request], bool] | None = None) -> Rule:
        """Adds a rule; by default for everything."""
        rule = Rule(status, matches or (lambda _request: True), times)
        self.rules.append(rule)
        return rule

    def count(self, text: str) -> int:
        """Requests whose line has this in it."""
        return sum(text in line for line in self.seen)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if self.away:
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError
        for rule in self.rules:
            if rule.used < rule.times and rule.matches(request):
                rule.used += 1
                self.seen.append(f"{request.method} {request.path_qs} {rule.status}")
                return _refusal(rule.status)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP}
        async with self._session.request(
            request.method,
            self._server + request.path_qs,
            headers=headers,
            data=await request.read() or None,
            timeout=aiohttp.ClientTimeout(total=None),
        ) as answer:
            self.seen.append(f"{request.method} {request.path_qs} {answer.status}")
            given = web.StreamResponse(
                status=answer.status,
                headers={name: value for name, value in answer.headers.items() if name.lower() not in HOP},
            )
            await given.prepare(request)
            async for piece in answer.content.iter_any():
                if not (self.stalls and is_watch(request)):
                    await given.write(piece)
            await given.write_eof()
            return given


def is_watch(request: web.Request) -> bool:
    """Whether a request watches."""
    return "watch=true" in request.query_string


def is_status(request: web.Request) -> bool:
    """Whether a request writes a status."""
    return request.method == "PUT" and request.path.endswith("/status")


def _refusal(status: int) -> web.Response:
    reason = {401: "Unauthorized", 404: "NotFound", 409: "Conflict", 410: "Expired", 500: "InternalError"}[status]
    body: dict[str, Any] = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": f"{reason}, says the proxy",
        "reason": reason,
        "code": status,
    }
    return web.Response(status=status, text=json.dumps(body), content_type="application/json")
