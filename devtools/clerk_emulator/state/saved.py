"""What changed since the seed, as a file: an emulator that is started again goes on where the last one ended.

Only differences from the seeded objects are written, as JSON. What lists show wrongly for a time (lingering and hidden
objects) and what was not delivered yet are not kept.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from devtools.clerk_emulator.state.instance import InstanceState
from devtools.clerk_emulator.state.records import MembershipRecord, OrganizationRecord, UserRecord
from devtools.clerk_emulator.state.table import TableChanges

VERSION = 1
"""Raise it when older files can no longer be read."""


@dataclass(frozen=True)
class Saved:
    """The file."""

    version: int
    seed: Mapping[str, Any]
    """What the seeded objects follow from; a file of another seed is refused."""
    users: TableChanges[UserRecord]
    organizations: TableChanges[OrganizationRecord]
    memberships: TableChanges[MembershipRecord]
    groups: list[tuple[int, int, int]]
    """Of memberships that came after the seed: their slot, their organization's and their user's."""
    identities: list[tuple[str, str, str]]
    """Kind, value, and the id of who has it."""


class Unusable(ValueError):
    """A state file that cannot be read, or belongs to another seed."""


def write(state: InstanceState, path: Path) -> None:
    """Replaces the file at once, readable by its owner only."""
    saved = Saved(
        version=VERSION,
        seed=state.seed,
        users=state.users.changes(),
        organizations=state.organizations.changes(),
        memberships=state.memberships.changes(),
        groups=state.later_memberships(),
        identities=state.remembered(),
    )
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as opened:
        opened.write(msgspec.json.encode(saved))
    beside.replace(path)


def read(state: InstanceState, path: Path) -> None:
    """Brings a freshly seeded state to where the file's was; a missing file changes nothing. Raises `Unusable`."""
    try:
        saved = msgspec.json.decode(path.read_bytes(), type=Saved)
    except FileNotFoundError:
        return
    except msgspec.DecodeError as error:
        raise Unusable(f"{path} is no state of an emulator: {error}") from None
    if saved.version != VERSION or saved.seed != state.seed:
        raise Unusable(f"{path} belongs to another version or seed of the emulator")
    state.users.restore(saved.users)
    state.organizations.restore(saved.organizations)
    state.memberships.restore(saved.memberships)
    state.restore(groups=saved.groups, identities=saved.identities)
