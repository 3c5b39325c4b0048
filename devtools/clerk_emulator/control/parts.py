"""What control and page are given: the parts of a running emulator."""

from dataclasses import dataclass

from devtools.clerk_emulator.api.faults import ApiFaults
from devtools.clerk_emulator.api.requests import RequestLog
from devtools.clerk_emulator.api.scripts import Scripts
from devtools.clerk_emulator.changes import Changes
from devtools.clerk_emulator.delivery.dispatcher import Dispatcher
from devtools.clerk_emulator.events import Events
from devtools.clerk_emulator.rendering import RenderedMemberships, RenderedUsers
from devtools.clerk_emulator.settings import Settings
from devtools.clerk_emulator.state.instance import InstanceState


@dataclass(frozen=True)
class Parts:
    """The parts of one emulator."""

    settings: Settings
    state: InstanceState
    changes: Changes
    events: Events
    dispatcher: Dispatcher
    requests: RequestLog
    api_faults: ApiFaults
    scripts: Scripts
    rendered_users: RenderedUsers
    rendered_memberships: RenderedMemberships
