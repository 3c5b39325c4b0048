"""A stand-in for Clerk that runs on loopback: Backend API, signed events, and faults on command.

In a test::

    async with Emulator(Settings(users=20, organizations=2, memberships=10)) as clerk:
        clerk.add_endpoint("http://127.0.0.1:8080/webhooks/clerk", secret="whsec_…")
        clerk.changes.users.create({"email_address": ["ada@example.com"]})
        await clerk.idle()

From a shell: ``python -m devtools.clerk_emulator --help``.
"""

from devtools.clerk_emulator.api.faults import ApiFault
from devtools.clerk_emulator.behaviour import Behaviour
from devtools.clerk_emulator.clerk_errors import ClerkError
from devtools.clerk_emulator.delivery.endpoints import Endpoint
from devtools.clerk_emulator.delivery.faults import Fault
from devtools.clerk_emulator.delivery.messages import Message
from devtools.clerk_emulator.emulator import Emulator
from devtools.clerk_emulator.settings import Settings

__all__ = ["ApiFault", "Behaviour", "ClerkError", "Emulator", "Endpoint", "Fault", "Message", "Settings"]
