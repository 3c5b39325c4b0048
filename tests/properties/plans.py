"""Plans for hypothesis: a few events of a very small world, and schedules in which they reach two processes.

The world is small so that events meet: three users, two organizations, versions of three milliseconds. What an event
says is drawn apart from its version, so that a tie decided wrongly shows.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import hypothesis
from hypothesis import strategies as st

from tests.events import T0, Signed, event, membership, organization, user
from tests.model import Told, told
from tests.properties.pair import Answered, Delivery

as_found = hypothesis.settings(phases=set(hypothesis.Phase) - {hypothesis.Phase.shrink, hypothesis.Phase.explain})
"""Without shrinking: over HTTP it takes minutes, longer than a test may, and what fails has ten events at most. To
shrink one all the same, take this decorator away and run with `--timeout=0`."""

TYPES = {"user": "user", "organization": "organization", "organization_membership": "organizationMembership"}

svix_ids = st.text(alphabet="aAbBzZ09_-", min_size=1, max_size=3).map("msg_".__add__)
moments = st.sampled_from([T0, T0 + 1, T0 + 2])
timestamps = st.sampled_from([T0, T0, T0 + 1, T0 + 2, None])
users = st.sampled_from(["user_0", "user_1", "user_2"])
organizations = st.sampled_from(["org_0", "org_1"])
words = st.sampled_from(["Ada", "Zoë", "李小龍", 'O\'Hara "\\"', ""])
metadata = st.sampled_from([{}, None, {"plan": "pro"}, {"a": [1, 2.5, None, {"b": "ü"}]}])


@st.composite
def user_objects(draw: st.DrawFn) -> dict[str, Any]:
    """A user with none to three addresses, one of them or none or a missing one primary."""
    user_id = draw(users)
    emails = [
        {
            "object": "email_address",
            "id": f"idn_{name}",
            "email_address": f"{draw(words)}+{name}@example.com",
            "verification": draw(st.sampled_from([None, {"status": "verified"}, {"status": "unverified"}])),
        }
        for name in draw(st.lists(st.sampled_from("abc"), unique=True, max_size=3))
    ]
    phones = [{"object": "phone_number", "id": "idn_p", "phone_number": "+15555550100"}] if draw(st.booleans()) else []
    return user(
        user_id,
        updated_at=draw(moments),
        email_addresses=emails,
        primary_email_address_id=draw(st.sampled_from([None, "idn_a", "idn_b"])),
        phone_numbers=phones,
        primary_phone_number_id=draw(st.sampled_from([None, "idn_p"])),
        first_name=draw(st.none() | words),
        last_name=draw(st.none() | words),
        external_id=draw(st.sampled_from([None, "ext_1"])),
        public_metadata=draw(metadata),
        banned=draw(st.booleans()),
        last_sign_in_at=draw(st.sampled_from([None, T0 - 1])),
    )


@st.composite
def organization_objects(draw: st.DrawFn) -> dict[str, Any]:
    """An organization."""
    return organization(
        draw(organizations),
        updated_at=draw(moments),
        name=draw(words),
        slug=draw(st.sampled_from([None, "acme", "acme-2"])),
        max_allowed_memberships=draw(st.sampled_from([None, 0, 5, 2**40])),
        public_metadata=draw(metadata),
        created_by=draw(st.none() | users),
    )


@st.composite
def membership_objects(draw: st.DrawFn, *, whole: bool = True) -> dict[str, Any]:
    """A membership; its id says whose and where, as Clerk never moves one. Not `whole`: it may lack a parent."""
    user_id, organization_id = draw(users), draw(organizations)
    made = membership(
        f"orgmem_{user_id}_{organization_id}",
        user_id=user_id,
        organization_id=organization_id,
        updated_at=draw(moments),
        role=draw(st.sampled_from(["org:member", "org:admin"])),
        permissions=draw(st.sampled_from([[], None, ["org:x:read"], ["org:x:read", "org:y:write"]])),
        public_metadata=draw(metadata),
    )
    if not whole and draw(st.integers(0, 2)) == 0:
        made["public_user_data"] = None
    return made


@st.composite
def events(draw: st.DrawFn, *, svix_id: str, whole: bool = True, deletes: st.SearchStrategy[bool]) -> Signed:
    """One event about one of the objects."""
    made = draw(
        st.one_of(user_objects(), user_objects(), organization_objects(), membership_objects(whole=whole))
        if draw(st.booleans())
        else st.one_of(user_objects(), membership_objects(whole=whole))
    )
    kind = made["object"]
    if draw(deletes):
        # Clerk sends a membership's deletion with the whole object, the others as a DeletedObject.
        data = made if kind == "organization_membership" else {"object": kind, "id": made["id"], "deleted": True}
        verb = "deleted"
    else:
        data, verb = made, draw(st.sampled_from(["created", "updated"]))
    return Signed(event(f"{TYPES[kind]}.{verb}", data, timestamp=draw(timestamps)), svix_id=svix_id)


@dataclass(frozen=True)
class Schedule:
    """Waves of deliveries: what is in one wave is under way at once. After some waves, all is replayed."""

    waves: tuple[tuple[Delivery, ...], ...]
    replays: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Plan:
    """The events, and two ways in which they come."""

    events: tuple[Signed, ...]
    schedules: tuple[Schedule, ...]


@st.composite
def schedules(draw: st.DrawFn, those: Sequence[Signed], *, replays: bool = True) -> Schedule:
    """Every event at least once, some again with the same svix-id, in any order, at either process."""
    again = draw(st.lists(st.sampled_from(those), max_size=len(those) // 2))
    order = draw(st.permutations([*those, *again]))
    waves: list[list[Delivery]] = [[]]
    for signed in order:
        if waves[-1] and draw(st.integers(0, 2)) == 0:
            waves.append([])
        waves[-1].append(Delivery(signed, draw(st.integers(0, 1)), age=draw(st.sampled_from([0, 0, 240]))))
    after = draw(st.frozensets(st.integers(0, len(waves) - 1), max_size=2)) if replays else frozenset()
    return Schedule(tuple(map(tuple, waves)), after)


@st.composite
def plans(draw: st.DrawFn, *, whole: bool = True, at_least_one_delete: bool = False, most: int = 10) -> Plan:
    """Two to `most` events and two schedules of them."""
    ids = draw(st.lists(svix_ids, unique=True, min_size=2, max_size=most))
    sometimes = st.sampled_from([False, False, False, True])
    those = [
        draw(events(svix_id=i, whole=whole, deletes=st.just(True) if at_least_one_delete and n == 0 else sometimes))
        for n, i in enumerate(ids)
    ]
    return Plan(tuple(those), tuple(draw(schedules(those)) for _ in range(2)))


def subjects(those: Iterable[Told]) -> set[tuple[str, str]]:
    """Every object that events are about."""
    return {(one.kind, one.id) for one in those}


@dataclass
class Reached:
    """Counts what the examples came to, so that a strategy that misses its point is found out."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: int = 0

    def note(self, *what: str) -> None:
        """Notes what one example had, each once."""
        self.examples += 1
        for name in sorted(set(what)):
            self.counts[name] += 1
            hypothesis.event(name)

    def expect(self, *names: str) -> None:
        """Each of these must have occurred in one example of a hundred at least; too few examples say nothing."""
        if self.examples < 100:
            return
        rare = {name: self.counts[name] for name in names if self.counts[name] < max(1, self.examples // 100)}
        assert not rare, f"of {self.examples} examples too few had {rare}; all: {dict(self.counts)}"


def describe(schedule: Schedule) -> set[str]:
    """What a schedule is interesting for."""
    found = set()
    order = [told(delivery.signed) for wave in schedule.waves for delivery in wave]
    if len({one.svix_id for one in order}) < len(order):
        found.add("repeated")
    gone: set[tuple[str, str]] = set()
    newest: dict[tuple[str, str], Told] = {}
    for one in order:
        key = (one.kind, one.id)
        if one.deleted:
            if key not in newest:
                found.add("deleted before created")
            gone.add(key)
            continue
        if key in gone:
            found.add("written after deleted")
        if gone & set(one.parents):
            found.add("member of somebody deleted")
        before = newest.get(key)
        if before is not None and before.svix_id != one.svix_id:
            if before.version.updated_at == one.version.updated_at:
                found.add("tie of updated_at")
                if before.version.observed_at == one.version.observed_at:
                    found.add("tie but for the svix-id")
            if before.version > one.version:
                found.add("older came later")
        if before is None or before.version < one.version:
            newest[key] = one
    if any(delivery.age for wave in schedule.waves for delivery in wave):
        found.add("signed long ago")
    if schedule.replays:
        found.add("replayed in between")
    return found


def describe_wave(answered: Sequence[Answered]) -> set[str]:
    """Whether deliveries that concern each other were under way at once, in both processes."""
    found = set()
    for n, one in enumerate(answered):
        for other in answered[n + 1 :]:
            if one.overlaps(other):
                same = one.delivery.signed.svix_id == other.delivery.signed.svix_id
                found.add("the same event twice at once" if same else "two events at once")
    return found
