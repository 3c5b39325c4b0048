"""What tests of the emulator, and of whatever talks to it, need: a scripted endpoint and Clerk's specification."""

from devtools.clerk_emulator.testing.receiver import Arrival, Receiver
from devtools.clerk_emulator.testing.specification import Specification, SpecificationMissing

__all__ = ["Arrival", "Receiver", "Specification", "SpecificationMissing"]
