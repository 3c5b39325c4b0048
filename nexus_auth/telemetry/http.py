"""A server of ours towards strangers: what is no HTTP is answered with one line that says nothing, and is not logged.

aiohttp answers a malformed request with its own name and version and with the bytes that it could not read, and logs
a traceback for each. Anybody may send such bytes, as often as they like.
"""

import asyncio
import logging
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

FIRST_REQUEST_SECONDS = 10.0
"""A connection that has not sent the head of its first request by then is closed."""

logger = logging.getLogger(__name__)


class QuietRunner(web.AppRunner):
    """`web.AppRunner` without access log, without `Server` header, and with a plain line for what is no HTTP."""

    def __init__(self, app: web.Application, **options: Any) -> None:
        """`options` are those of `web.AppRunner`."""
        app.on_response_prepare.append(_without_server)
        super().__init__(app, access_log=None, **options)

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        return _QuietServer(
            server.request_handler, request_factory=server.request_factory, loop=server._loop, **server._kwargs
        )


class _QuietServer(web.Server):
    def __call__(self) -> web.RequestHandler:
        return _QuietHandler(self, loop=self._loop, **self._kwargs)


class _QuietHandler(web.RequestHandler):
    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        asyncio.get_running_loop().call_later(FIRST_REQUEST_SECONDS, self._close_if_silent)

    def _close_if_silent(self) -> None:
        if self._request_count == 0:
            self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it may quote the sender
    ) -> web.StreamResponse:
        """Answers with the status' name alone."""
        if exc is not None and not isinstance(exc, HttpProcessingError):
            logger.error("a request could not be handled", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("a response was begun already")
        response = _Anonymous(status=status, text=f"{HTTPStatus(status).phrase.lower()}\n")
        response.force_close()
        return response

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Sends the response. aiohttp's own answer to an unknown `Expect` header quotes it: that text is replaced."""
        if resp.status == HTTPStatus.EXPECTATION_FAILED and isinstance(resp, web.Response):
            resp.text = "expectation failed\n"
        return await super().finish_response(request, resp, start_time)


class _Anonymous(web.Response):
    """A response outside any application: no signal takes its `Server` header away."""

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self.headers.popall("Server", None)


async def _without_server(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.popall("Server", None)
