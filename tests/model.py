"""What the mirror must hold, given the set of events that it was told: the promises in the simplest words there are.

Nothing here has an order, a lock or a batch, and nothing is shared with the code under test but `Version`: the highest
version of an object counts, unless a deletion of it is in the set; a membership dies with either of its parents. Beside
it, the reader that brings out of Postgres what is compared with that, column by column.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from devtools.postgres import Database
from nexus_auth.clerk.version import WEBHOOK, Version
from tests.events import Signed

Row = dict[str, Any]
Key = tuple[str, str]
"""kind, id."""

KINDS = {
    "user": "user",
    "organization": "organization",
    "organizationMembership": "organization_membership",
}
TABLES = ("users", "user_emails", "organizations", "organization_memberships")
PRIVATE = (
    *("objects", "inbox", "inbox_seen", "parked", "burying"),
    *("deletions", "held_deletions", "distrusted_secrets", "verifier", "refused_objects"),
)


@dataclass(frozen=True)
class Told:
    """One event: what it says of which object."""

    svix_id: str
    kind: str
    id: str
    deleted: bool
    version: Version
    data: dict[str, Any]

    @property
    def parents(self) -> tuple[Key, ...]:
        """What a membership lives and dies with."""
        if self.kind != "organization_membership":
            return ()
        user = (self.data.get("public_user_data") or {}).get("user_id")
        organization = (self.data.get("organization") or {}).get("id")
        return tuple((kind, key) for kind, key in (("user", user), ("organization", organization)) if key)


@dataclass(frozen=True)
class Arbiter:
    """What `clerk_private.objects` says of an object."""

    version: Version | None
    """None once it is dead."""
    buried_by: str | None
    """None while it lives."""
    deleted_at: int | None
    """Of users and organizations: the last deletion. Of memberships always None here: theirs may be their own or a
    parent's, whichever came first, and nobody depends on it."""
    raw: Any
    """The object as last applied."""


@dataclass(frozen=True)
class Mirror:
    """Everything that is compared."""

    users: dict[str, Row] = field(default_factory=dict)
    user_emails: dict[tuple[str, str], Row] = field(default_factory=dict)
    organizations: dict[str, Row] = field(default_factory=dict)
    organization_memberships: dict[str, Row] = field(default_factory=dict)
    objects: dict[Key, Arbiter] = field(default_factory=dict)

    def differs_from(self, other: "Mirror") -> list[str]:
        """One line for every column, row or object that is not the same; empty where all is."""
        found = [
            line
            for name in TABLES
            for line in _differences(f"clerk.{name}", getattr(self, name), getattr(other, name), columns=dict)
        ]
        found += _differences("objects", self.objects, other.objects, columns=vars)
        return found

    def only(self, keys: Iterable[Key]) -> "Mirror":
        """The part that is about these objects."""
        wanted = set(keys)
        return Mirror(
            users={i: row for i, row in self.users.items() if ("user", i) in wanted},
            user_emails={i: row for i, row in self.user_emails.items() if ("user", i[0]) in wanted},
            organizations={i: row for i, row in self.organizations.items() if ("organization", i) in wanted},
            organization_memberships={
                i: row for i, row in self.organization_memberships.items() if ("organization_membership", i) in wanted
            },
            objects={key: arbiter for key, arbiter in self.objects.items() if key in wanted},
        )

    @property
    def dead(self) -> set[Key]:
        """Every tombstone."""
        return {key for key, arbiter in self.objects.items() if arbiter.buried_by is not None}

    @property
    def visible(self) -> set[Key]:
        """Every object that has a typed row."""
        return {
            *(("user", i) for i in self.users),
            *(("organization", i) for i in self.organizations),
            *(("organization_membership", i) for i in self.organization_memberships),
        }


def _differences(table: str, left: Mapping[Any, Any], right: Mapping[Any, Any], *, columns: Any) -> Iterator[str]:
    for key in sorted(set(left) | set(right)):
        if key not in right:
            yield f"{table} {key}: only on the left: {left[key]}"
        elif key not in left:
            yield f"{table} {key}: only on the right: {right[key]}"
        else:
            one, two = columns(left[key]), columns(right[key])
            for column in sorted(set(one) | set(two)):
                if one.get(column, "no such column") != two.get(column, "no such column"):
                    yield f"{table} {key} {column}: {one.get(column)!r} and {two.get(column)!r}"


def told(signed: Signed) -> Told:
    """Reads an event of users, organizations or memberships that can be applied."""
    body = json.loads(signed.body)
    group, _, verb = body["type"].rpartition(".")
    data, deleted = body["data"], verb == "deleted"
    return Told(
        svix_id=signed.svix_id,
        kind=KINDS[group],
        id=data["id"],
        deleted=deleted,
        version=Version(
            updated_at=0 if deleted else data["updated_at"],
            observed_at=body.get("timestamp", 0),
            source_rank=WEBHOOK,
            svix_id=signed.svix_id,
        ),
        data=data,
    )


def expected(delivered: Iterable[Signed]) -> Mirror:
    """The mirror after these events, in whatever order, however often each came.

    A membership's event that does not name both parents counts once another event of the same membership named them.
    """
    return expected_of(told(signed) for signed in delivered)


def expected_of(events: Iterable[Told]) -> Mirror:
    """As `expected`."""
    mirror = Mirror()
    by_object: dict[Key, list[Told]] = {}
    for one in events:
        by_object.setdefault((one.kind, one.id), []).append(one)
    deletions = {key: [e for e in those if e.deleted] for key, those in by_object.items()}
    dead = {key for key, those in deletions.items() if those}
    for key, those in by_object.items():
        parents = dict(parent for e in those if not e.deleted for parent in e.parents)
        if key[0] == "organization_membership" and len(parents) < 2 and key not in dead:
            continue  # nothing is known to complete it from: it is parked
        if key in dead:
            last = max(e.version.observed_at for e in deletions[key])
            mirror.objects[key] = _tombstone(key, buried_by="event", deleted_at=last)
        elif dead & set(parents.items()):
            mirror.objects[key] = _tombstone(key, buried_by="parent", deleted_at=0)
        else:
            winner = max((e for e in those if not e.deleted), key=lambda e: e.version)
            raw = winner.data if len(winner.parents) == 2 or not parents else _completed(winner.data, parents)
            mirror.objects[key] = Arbiter(version=winner.version, buried_by=None, deleted_at=None, raw=raw)
            _project(mirror, key[0], raw)
    return mirror


def _tombstone(key: Key, *, buried_by: str, deleted_at: int) -> Arbiter:
    at = None if key[0] == "organization_membership" else deleted_at
    return Arbiter(version=None, buried_by=buried_by, deleted_at=at, raw=None)


def _completed(data: dict[str, Any], parents: Mapping[str, str]) -> dict[str, Any]:
    return data | {
        "organization": {"id": parents["organization"]},
        "public_user_data": {"user_id": parents["user"]},
    }


def _project(mirror: Mirror, kind: str, raw: dict[str, Any]) -> None:
    if kind == "user":
        mirror.users[raw["id"]] = _user(raw)
        for email in raw["email_addresses"]:
            mirror.user_emails[raw["id"], email["id"]] = _email(raw, email)
    elif kind == "organization":
        mirror.organizations[raw["id"]] = _organization(raw)
    else:
        mirror.organization_memberships[raw["id"]] = _membership(raw)


def _user(raw: dict[str, Any]) -> Row:
    primary = next((e for e in raw["email_addresses"] if e["id"] == raw["primary_email_address_id"]), None)
    phone = next((p for p in raw["phone_numbers"] if p["id"] == raw["primary_phone_number_id"]), None)
    return {
        "id": raw["id"],
        "primary_email": primary and primary["email_address"],
        "primary_email_verified": primary is not None and _verified(primary),
        "primary_phone": phone and phone["phone_number"],
        "username": raw["username"],
        "first_name": raw["first_name"],
        "last_name": raw["last_name"],
        "image_url": raw["image_url"],
        "external_id": raw["external_id"],
        "locale": raw.get("locale"),
        "public_metadata": raw["public_metadata"] or {},
        "banned": raw["banned"],
        "locked": raw["locked"],
        "two_factor_enabled": raw["two_factor_enabled"],
        "last_sign_in_at": _moment(raw["last_sign_in_at"]),
        "created_at": _moment(raw["created_at"]),
        "updated_at": _moment(raw["updated_at"]),
    }


def _email(raw: dict[str, Any], email: dict[str, Any]) -> Row:
    return {
        "user_id": raw["id"],
        "id": email["id"],
        "email": email["email_address"],
        "verified": _verified(email),
        "is_primary": email["id"] == raw["primary_email_address_id"],
    }


def _verified(email: dict[str, Any]) -> bool:
    return email["verification"] is not None and email["verification"]["status"] == "verified"


def _organization(raw: dict[str, Any]) -> Row:
    return {
        "id": raw["id"],
        "name": raw["name"],
        "slug": raw["slug"],
        "image_url": raw.get("image_url"),
        "max_allowed_memberships": raw["max_allowed_memberships"],
        "public_metadata": raw["public_metadata"] or {},
        "created_by": raw["created_by"],
        "created_at": _moment(raw["created_at"]),
        "updated_at": _moment(raw["updated_at"]),
    }


def _membership(raw: dict[str, Any]) -> Row:
    return {
        "id": raw["id"],
        "organization_id": raw["organization"]["id"],
        "user_id": raw["public_user_data"]["user_id"],
        "role": raw["role"],
        "permissions": raw["permissions"] or [],
        "public_metadata": raw["public_metadata"] or {},
        "created_at": _moment(raw["created_at"]),
        "updated_at": _moment(raw["updated_at"]),
    }


def _moment(ms: int | None) -> datetime | None:
    return None if ms is None else datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=ms)


async def read_mirror(connection: Any) -> Mirror:
    """Reads what is there, all of it in one snapshot; `connection` as a writer's role (`connect_reader`)."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        users, emails, organizations, memberships = [
            [_plain(row) for row in await connection.fetch(f"select * from clerk.{table}")] for table in TABLES
        ]
        objects = await connection.fetch("select * from clerk_private.objects")
    return Mirror(
        users={row["id"]: row for row in users},
        user_emails={(row["user_id"], row["id"]): row for row in emails},
        organizations={row["id"]: row for row in organizations},
        organization_memberships={row["id"]: row for row in memberships},
        objects={(row["kind"], row["id"]): _arbiter(row) for row in objects},
    )


def _plain(row: Mapping[str, Any]) -> Row:
    return {**row, **({"public_metadata": json.loads(row["public_metadata"])} if "public_metadata" in row else {})}


def _arbiter(row: Mapping[str, Any]) -> Arbiter:
    dead = row["deleted_at"] is not None
    return Arbiter(
        version=None if dead else Version(row["updated_at"], row["observed_at"], row["source_rank"], row["svix_id"]),
        buried_by=row["buried_by"],
        deleted_at=None if row["kind"] == "organization_membership" else row["deleted_at"],
        raw=None if row["raw"] is None else json.loads(row["raw"]),
    )


async def connect_reader(database: Database) -> Any:
    """A connection that sees every row of the mirror, of `objects` and of the inbox, and may replay: as the CLI."""
    return await asyncpg.connect(
        database.url("cli"), server_settings={"role": f"{database.role_prefix}cli", "timezone": "UTC"}
    )


async def forget_everything(*, admin: Any) -> None:
    """Empties the database, for the next example: 3 ms, where TRUNCATE takes 75."""
    tables = [*(f"clerk.{table}" for table in TABLES), *(f"clerk_private.{table}" for table in PRIVATE)]
    await admin.execute("; ".join(f"delete from {table}" for table in tables))
