"""The emulator as one thing: its parts wired together and served on one port."""

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from aiohttp import web

from devtools.clerk_emulator.api import api_app
from devtools.clerk_emulator.api.door import Conditions, Observer
from devtools.clerk_emulator.api.faults import ApiFault, ApiFaults
from devtools.clerk_emulator.api.instance import InstanceView
from devtools.clerk_emulator.api.rate_limit import RateLimit
from devtools.clerk_emulator.api.requests import RequestLog
from devtools.clerk_emulator.api.scripts import Script, Scripts
from devtools.clerk_emulator.changes import Changes
from devtools.clerk_emulator.control import Parts, control_app
from devtools.clerk_emulator.delivery.dispatcher import Dispatcher
from devtools.clerk_emulator.delivery.endpoints import Endpoint
from devtools.clerk_emulator.delivery.faults import Fault, Faults
from devtools.clerk_emulator.delivery.messages import Message
from devtools.clerk_emulator.events import Events
from devtools.clerk_emulator.page import add_page
from devtools.clerk_emulator.rendering import RenderedMemberships, RenderedUsers
from devtools.clerk_emulator.settings import Settings
from devtools.clerk_emulator.state import saved
from devtools.clerk_emulator.state.instance import InstanceState

SAVE_SECONDS = 0.5
"""Pause between two looks at whether something changed."""

AnyFault = TypeVar("AnyFault", Fault, ApiFault)


class Emulator:
    """A Clerk instance on loopback; an async context manager that serves while it is open.

    Everything that can be done by HTTP can be done in the same process through :attr:`changes` (users,
    organizations, memberships), :meth:`emit`, :attr:`faults` and :attr:`dispatcher`.
    """

    def __init__(self, settings: Settings | None = None, *, observe: Observer | None = None) -> None:
        """Seed the instance; nothing listens yet. ``observe`` is shown every answer of the API.

        Raises ValueError where the state file cannot be used.
        """
        self.settings = settings or Settings()
        self.state = InstanceState(self.settings)
        if self.settings.state_file is not None:
            saved.read(self.state, self.settings.state_file)
        self._saved = self.state.edits
        self._saving: asyncio.Task[None] | None = None
        self.rendered_users = RenderedUsers(self.state, budget=self.settings.rendered_bytes)
        self.rendered_memberships = RenderedMemberships(self.state, budget=self.settings.rendered_bytes // 4)
        self.faults = Faults(seed=self.settings.seed)
        self.api_faults = ApiFaults(seed=self.settings.seed)
        self.scripts = Scripts()
        self.requests = RequestLog(limit=self.settings.request_log)
        self.view = InstanceView(instance_id=self.settings.instance_id, environment_type=self.settings.environment_type)
        self.conditions = Conditions(
            secret_key=self.settings.secret_key,
            environment_type=self.settings.environment_type,
            behaviour=lambda: self.events.behaviour,
            log=self.requests,
            limit=RateLimit(),
            faults=self.api_faults,
            scripts=self.scripts,
            observe=observe,
        )
        self.port = 0

    async def __aenter__(self) -> Self:
        """Listen."""
        self.dispatcher = Dispatcher(
            seed=self.settings.seed,
            log_limit=self.settings.message_log,
            faults=self.faults,
            behaviour=lambda: self.events.behaviour,
        )
        self.events = Events(
            state=self.state,
            dispatcher=self.dispatcher,
            instance_id=self.settings.instance_id,
            behaviour=self.settings.behaviour,
        )
        self.changes = Changes(state=self.state, events=self.events)
        await self.dispatcher.__aenter__()
        self._runner = web.AppRunner(self._app(), access_log=None, handle_signals=False, shutdown_timeout=0.5)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.settings.host, self.settings.port)
        try:
            await site.start()
        except OSError:
            await self._close()
            raise
        self.port = self._runner.addresses[0][1]
        if self.settings.state_file is not None:
            self.save()
            self._saving = asyncio.create_task(self._keep_saving())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop listening and drop what was not delivered."""
        await self._close()

    def save(self) -> None:
        """Write the state file now."""
        if self.settings.state_file is not None:
            self._saved = self.state.edits
            saved.write(self.state, self.settings.state_file)

    async def _keep_saving(self) -> None:
        """Write the state file soon after each change, without spending most of the time on it."""
        while True:
            began = time.monotonic()
            if self.state.edits != self._saved:
                self.save()
            await asyncio.sleep(max(SAVE_SECONDS, 10 * (time.monotonic() - began)))

    @property
    def url(self) -> str:
        """The page, and the root of everything."""
        return f"http://{self.settings.host}:{self.port}"

    @property
    def api_url(self) -> str:
        """The API's root without ``/v1``, as ``CLERK_API_URL`` has it."""
        return self.url

    @property
    def secret_key(self) -> str:
        """The API key."""
        return self.settings.secret_key

    @property
    def instance_id(self) -> str:
        """The instance's id."""
        return self.settings.instance_id

    def add_endpoint(self, url: str, *, secret: str | None = None) -> Endpoint:
        """Send events to this address from now on."""
        return self.dispatcher.add_endpoint(url, secret=secret)

    def add_fault(self, fault: AnyFault) -> AnyFault:
        """Put a fault in force: a :class:`Fault` of deliveries or an :class:`ApiFault`."""
        return self.api_faults.add(fault) if isinstance(fault, ApiFault) else self.faults.add(fault)

    def before(self, *, page: int, do: Callable[[], object], route: str = "/users", query: str = "*") -> Script:
        """Do something right before the ``page``-th GET from now on whose route and query match these globs."""
        return self.scripts.add(Script(do, page=page, route=route, query=query))

    def emit(self, event_type: str, data: Any, **options: Any) -> Message:
        """Send an event; options as in :meth:`devtools.clerk_emulator.events.Events.emit`."""
        return self.events.emit(event_type, data, **options)

    async def idle(self, *, timeout: float = 10.0) -> None:
        """Wait until nothing is on its way; raise TimeoutError after so many seconds."""
        if not await self.dispatcher.outstanding.idle(timeout=timeout):
            raise TimeoutError(f"{self.dispatcher.outstanding.count} deliveries are still on their way")

    def _app(self) -> web.Application:
        parts = Parts(
            settings=self.settings,
            state=self.state,
            changes=self.changes,
            events=self.events,
            dispatcher=self.dispatcher,
            requests=self.requests,
            api_faults=self.api_faults,
            scripts=self.scripts,
            rendered_users=self.rendered_users,
            rendered_memberships=self.rendered_memberships,
        )
        app = web.Application()
        app.add_subapp(
            "/v1",
            api_app(
                state=self.state,
                changes=self.changes,
                rendered_users=self.rendered_users,
                rendered_memberships=self.rendered_memberships,
                view=self.view,
                conditions=self.conditions,
            ),
        )
        app.add_subapp("/_emulator", control_app(parts))
        add_page(app, parts)
        return app

    async def _close(self) -> None:
        if self._saving is not None:
            self._saving.cancel()
        await asyncio.gather(self._runner.cleanup(), self.dispatcher.__aexit__(None, None, None))
        if self._saving is not None:
            self.save()
