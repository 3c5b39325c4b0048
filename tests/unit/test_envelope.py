"""A verified body is read without ever raising, and by both ways to the same event."""

import dataclasses
import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nexus_auth.clerk import json_safety, privacy
from nexus_auth.clerk.catalogue import DELETED, ENTITIES
from nexus_auth.clerk.envelope import LONGEST_ID, Event, _read_document, read, safe_object
from tests.events import INSTANCE, T0, deleted, event, membership, organization, user

TYPES = ["user.created", "user.updated", "user.deleted", "organization.created", "organizationMembership.deleted"]

texts = st.text(st.characters(codec=None, exclude_categories=()), max_size=20)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=12,
)
objects = st.fixed_dictionaries(
    {},
    optional={
        "id": st.sampled_from(["user_1", "org_0123456789A", "", "x" * 600]) | anything,
        "updated_at": st.integers(-1, 2**54) | st.floats(0, 1e13) | anything,
        "created_by": st.sampled_from(["user_0123456789A"]) | anything,
        "organization": st.fixed_dictionaries({"id": st.just("org_0123456789B") | anything}) | anything,
        "public_user_data": st.fixed_dictionaries({"user_id": st.just("user_0123456789C") | anything}) | anything,
        "first_name": texts,
        "public_metadata": anything,
        "phone_numbers": st.lists(st.fixed_dictionaries({"backup_codes": anything}), max_size=2),
        "otp_code": anything,
    },
)
envelopes = st.fixed_dictionaries(
    {"type": st.sampled_from([*TYPES, "email.created", "invitation.created", "session.created"]) | texts | anything},
    optional={
        "data": objects | anything,
        "timestamp": st.integers(-1, 2**60) | st.floats() | anything,
        "instance_id": st.just(INSTANCE) | anything,
        "object": st.just("event"),
        "event_attributes": anything,
        "more": anything,
    },
)


def consistent(body: bytes, read_event: Event) -> None:
    """What holds of every event, whatever the body was."""
    assert read_event.withheld == (read_event.body != body)
    assert (read_event.state == "parked") == (read_event.error is not None)
    assert type(read_event.observed_at) is type(read_event.updated_at) is int
    for text in (read_event.type, read_event.id or "", *read_event.subjects, read_event.instance_id or ""):
        assert json_safety.clean_text(text) == text
    if read_event.state == "applied":
        assert read_event.kind is not None
        assert read_event.id
        assert len(read_event.id.encode()) <= LONGEST_ID
        assert read_event.subjects[0] == read_event.id
        assert (read_event.object_json is None) == read_event.deleted
        if read_event.object_json is not None:
            applied = msgspec.json.decode(read_event.object_json)
            assert (applied["id"], applied["updated_at"]) == (read_event.id, read_event.updated_at)
    else:
        assert read_event.object_json is None
        assert read_event.updated_at == 0


@given(st.binary(max_size=300), st.booleans())
@example(b"", False)
@example(b"\xff", False)
@example(b"[" * 200_000, False)
@example(b'{"type":"user.created","data":' + b"[" * 200_000, True)
@example(b'{"type":"user.created","data":{"id":"user_1","updated_at":1,"x":"\xff"}}', False)
@example(b'{"type":"user.created","data":{"id":"user_1","updated_at":1,"x":1e-9999999999999999999}}', False)
def test_any_bytes_are_read_without_an_error(body: bytes, keep: bool) -> None:
    consistent(body, read(body, keep_event_attributes=keep))


@given(anything)
def test_any_json_is_read_without_an_error(document: Any) -> None:
    body = json.dumps(document).encode()
    consistent(body, read(body))


@given(envelopes, st.booleans())
def test_anything_in_the_place_of_a_member_is_read_without_an_error(envelope: dict[str, Any], keep: bool) -> None:
    body = json.dumps(envelope).encode()
    read_event = read(body, keep_event_attributes=keep)
    consistent(body, read_event)
    assert read_event.type == (json_safety.clean_text(t) if isinstance(t := envelope["type"], str) else "")


@given(envelopes, st.booleans())
@example({"type": "user.created", "data": {}, "event_attributes": None}, False)
def test_the_short_way_and_the_thorough_way_come_to_the_same(envelope: dict[str, Any], keep: bool) -> None:
    try:
        body = json.dumps(envelope, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        body = json.dumps(envelope).encode()
    agree(body, keep=keep)


@pytest.mark.parametrize(
    "body",
    [
        event("user.created", user("user_0123456789A")),
        event(
            "user.updated", user("user_0123456789A", public_metadata={"n": 0.1234567890123456, "e": 1e22, "i": -0.0})
        ),
        event("user.deleted", deleted("user", "user_0123456789A", external_id="x")),
        event("organization.updated", organization("org_0123456789A", created_by="user_0123456789A")),
        event("organizationMembership.created", membership("orgmem_0123456789A", organization_id="o", user_id="u")),
        event("user.created", user("user_1"), event_attributes={"http_request": {"client_ip": "192.0.2.1"}}),
        event("user.created", user("user_1"), timestamp=T0 // 1000),
        json.dumps({"type": "user.created", "timestamp": T0 / 1000, "data": user("user_1")}).encode(),
    ],
)
@pytest.mark.parametrize("keep", [False, True])
def test_common_events_take_the_short_way_and_come_to_the_same(body: bytes, keep: bool) -> None:
    assert json_safety.is_plain(body)
    assert not privacy.may_hold_secrets(body, event_type=json.loads(body)["type"])
    agree(body, keep=keep)


def agree(body: bytes, *, keep: bool) -> None:
    short = read(body, keep_event_attributes=keep)
    try:
        document = json_safety.parse(body)
    except json_safety.NotJson:
        return
    thorough = _read_document(document, body, keep_event_attributes=keep)
    # The short way notes the ids of objects that have a table; the thorough way those of addresses too.
    assert set(short.subjects) <= {*thorough.subjects, *(s for s in short.subjects if len(s) < 20)}
    assert dataclasses.replace(short, subjects=(), body=b"", object_json=None) == dataclasses.replace(
        thorough, subjects=(), body=b"", object_json=None
    )
    for one, other in ((short.body, thorough.body), (short.object_json, thorough.object_json)):
        assert (one is None) == (other is None)
        if one is not None and other is not None and one != other:
            assert without_rest(json_safety.parse(_bytes(one))) == without_rest(json_safety.parse(_bytes(other)))


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def without_rest(document: Any) -> Any:
    """The members of an envelope that somebody reads; a body without `object` gets one by the short way."""
    if not isinstance(document, dict) or "type" not in document:
        return document
    return {key: document.get(key) for key in ("data", "type", "timestamp", "instance_id", "event_attributes")}


@pytest.mark.parametrize("group", ENTITIES)
@pytest.mark.parametrize("verb", ["created", "updated", DELETED, "accepted", "exploded"])
def test_projected_kinds_are_applied_others_wait_and_unknown_verbs_are_not_guessed_at(group: str, verb: str) -> None:
    for more in ({}, {"more": "\x00"}):
        read_event = read(event(f"{group}.{verb}", {"id": "thing_1", "updated_at": T0} | more))
        entity = ENTITIES[group]
        expected = "waiting" if not entity.projected else "kept" if verb in ("accepted", "exploded") else "applied"
        assert (read_event.state, read_event.kind, read_event.deleted) == (expected, entity.kind, verb == DELETED)


@pytest.mark.parametrize(
    "event_type", ["", "user", "user.", ".created", "users.created", "user.created.x", "User.created"]
)
def test_types_that_nobody_knows_are_kept(event_type: str) -> None:
    read_event = read(event(event_type, user("user_1")))
    assert (read_event.type, read_event.state, read_event.error) == (event_type, "kept", None)


def test_ids_are_those_of_clerk_and_no_words() -> None:
    session = {
        "object": "organization_membership",
        "id": "sess_2b6fcd92dvf96q05x8e4a0xvrdk",
        "user": {"id": "user_29w83sxmDNGwOuEthce5gg56FcC", "object": "external_identification"},
        "actors": [{"sub": "user_2mWMAqqkHh9YzXVsmTt5JxGqYgH"}],
        "public_metadata": {"manager": "user_29w83sxmDNGwOuEthce5gg56FcX"},
    }
    first, *others = read(event("session.created", session)).subjects
    assert first == session["id"]
    assert sorted(others) == ["user_29w83sxmDNGwOuEthce5gg56FcC", "user_2mWMAqqkHh9YzXVsmTt5JxGqYgH"]


SECONDS = T0 // 1000


@pytest.mark.parametrize("more", [{}, {"first_name": "\x00"}])
def test_times_of_an_object_in_seconds_become_milliseconds(more: dict[str, Any]) -> None:
    data = user("user_1", updated_at=SECONDS, created_at=SECONDS, last_sign_in_at=SECONDS) | more
    data["email_addresses"][0]["created_at"] = SECONDS
    data["public_metadata"] = {"renewed_at": SECONDS}
    body = event("user.updated", data)
    read_event = read(body)
    assert (read_event.state, read_event.updated_at, read_event.body) == ("applied", SECONDS * 1000, body)
    applied = json.loads(read_event.object_json or "")
    assert [applied[name] for name in ("updated_at", "created_at", "last_sign_in_at")] == [SECONDS * 1000] * 3
    assert applied["email_addresses"][0]["created_at"] == SECONDS * 1000
    assert applied["public_metadata"] == {"renewed_at": SECONDS}
    assert json.loads(safe_object(json.dumps(data).encode(), group="user")) == applied


def test_times_that_are_no_seconds_stay_as_they_are() -> None:
    data = organization("org_1", created_at=1, updated_at=T0)
    read_event = read(event("organization.created", data))
    assert json.loads(read_event.object_json or "") == data


def test_a_session_that_waits_for_its_table_is_kept_without_where_it_was_and_with_it_where_asked_for() -> None:
    data = {"id": "sess_1", "object": "session", "latest_activity": {"id": "a_1", "ip_address": "192.0.2.1"}}
    body = event("session.created", data, event_attributes={"http_request": {"client_ip": "192.0.2.1"}})
    read_event = read(body)
    assert (read_event.state, read_event.withheld, b"192.0.2.1" in read_event.body) == ("waiting", True, False)
    kept = read(body, keep_event_attributes=True)
    assert (kept.state, kept.withheld, kept.body) == ("waiting", False, body)
    assert "192.0.2.1" not in safe_object(json.dumps(data).encode(), group="session")


def test_an_address_that_a_second_member_of_its_name_hides_is_not_kept() -> None:
    body = event("session.created", {"id": "sess_1"}).replace(
        b'"id": "sess_1"', b'"ip_address": "192.0.2.1", "id": "sess_1", "ip_address": null'
    )
    assert b"192.0.2.1" not in read(body).body


def test_a_city_in_metadata_is_the_customers_own_and_the_body_stays_as_it_was_signed() -> None:
    body = event("user.created", user("user_1", public_metadata={"city": "Zurich"}))
    assert (read(body).body, read(body).withheld) == (body, False)
