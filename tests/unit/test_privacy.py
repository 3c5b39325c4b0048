"""What is withheld, by name and by type of event; and that nothing else changes."""

import copy
import json
from collections.abc import Collection
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nexus_auth.clerk.catalogue import ENTITIES, MESSAGE_MEMBERS, WITHHELD_EVERYWHERE, WITHHELD_IN_METADATA
from nexus_auth.clerk.privacy import (
    WITHHELD,
    holds_named_secret,
    is_message,
    may_be_personal,
    may_hold_secrets,
    unreadable_may_hold_secrets,
    unreadable_without_personal,
    withhold,
)

NAMES = sorted(WITHHELD_EVERYWHERE)
WITH_LINKS = sorted(group for group, entity in ENTITIES.items() if "url" in entity.withheld)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*NAMES, "url", "a", "public_metadata"]) | st.text(), inner, max_size=4)
    ),
    max_leaves=20,
)


def secrets_in(value: Any, names: Collection[str] = NAMES) -> list[Any]:
    """Every value under a secret's name that is neither null nor withheld; in metadata fewer names are secrets'."""
    if isinstance(value, dict):
        found = [member for key, member in value.items() if key in names and member not in (None, WITHHELD)]
        for key, member in value.items():
            found += secrets_in(member, WITHHELD_IN_METADATA if key == "public_metadata" else names)
        return found
    return [secret for member in value for secret in secrets_in(member, names)] if isinstance(value, list) else []


@given(values)
@example({"public_metadata": {"otp": False, "backup_codes": 1}, "otp": 2})
def test_no_named_secret_stays_and_the_argument_does(data: Any) -> None:
    given_event = {"type": "galaxy.created", "data": data}
    before = copy.deepcopy(given_event)
    kept, withheld = withhold(given_event, event_type="galaxy.created")
    assert given_event == before
    assert secrets_in(kept) == []
    assert withheld == (kept != before)
    assert withhold(kept, event_type="galaxy.created") == (kept, False)


@given(values)
def test_the_cheap_test_on_bytes_misses_nothing_that_is_withheld(data: Any) -> None:
    given_event = {"type": "user.created", "data": data}
    _, withheld = withhold(given_event, event_type="user.created")
    for separators in ((",", ":"), (" , ", " : ")):
        body = json.dumps(given_event, separators=separators, ensure_ascii=False).encode("utf-8", "surrogatepass")
        if withheld:
            assert may_hold_secrets(body, event_type="user.created")
            assert holds_named_secret(body)


@pytest.mark.parametrize("name", NAMES)
def test_a_null_is_no_secret_and_its_name_as_a_value_or_as_part_of_one_is_none(name: str) -> None:
    for harmless in ({name: None}, {"strategy": name}, [name], {f"verification_{name}": 1}, {f"{name}_enabled": True}):
        kept, withheld = withhold({"data": harmless}, event_type="user.created")
        assert (kept, withheld) == ({"data": harmless}, False)
        assert not may_hold_secrets(json.dumps({"data": harmless}).encode(), event_type="user.created")


@pytest.mark.parametrize("event_type", ["email.created", "sms.created", "email", "sms.", "EMAIL.created", "sms.a.b"])
def test_of_a_message_only_the_allowed_members_stay(event_type: str) -> None:
    assert is_message(event_type)
    data = dict.fromkeys(MESSAGE_MEMBERS, "harmless") | {"subject": "1", "body": "2", "data": {"id": "3"}}
    event = {"type": event_type, "timestamp": 1, "instance_id": "ins_1", "data": data, "preview": "4"}
    kept, withheld = withhold(event, event_type=event_type)
    assert withheld
    assert {key for key, value in kept["data"].items() if value == WITHHELD} == {"subject", "body", "data"}
    assert kept["preview"] == WITHHELD
    assert (kept["timestamp"], kept["instance_id"]) == (1, "ins_1")
    for odd in ("text", ["list"], None, 7):
        assert withhold({"data": odd}, event_type=event_type) == ({"data": WITHHELD}, True)
    assert may_hold_secrets(b"{}", event_type=event_type)


@pytest.mark.parametrize("event_type", ["emails.created", "user.email", "mail.created", "", "organization.sms.created"])
def test_what_only_sounds_like_a_message_is_none(event_type: str) -> None:
    assert not is_message(event_type)


@pytest.mark.parametrize("group", WITH_LINKS)
def test_links_of_invitations_are_withheld_outside_metadata_only(group: str) -> None:
    data = {"url": "secret", "inner": [{"url": "secret"}], "public_metadata": {"url": "mine", "a": [{"url": "mine"}]}}
    kept, _ = withhold({"data": data}, event_type=f"{group}.created")
    assert kept["data"] == {
        "url": WITHHELD,
        "inner": [{"url": WITHHELD}],
        "public_metadata": {"url": "mine", "a": [{"url": "mine"}]},
    }
    assert withhold({"data": data}, event_type="user.created") == ({"data": data}, False)


@pytest.mark.parametrize(
    "body",
    [
        b'{"type":"email.created","body":"1',
        b'{"type":"sms.created"',
        rb'{"type":"\u0065mail.created"',
        rb'{"type":"sms\u002Ecreated"',
        b'{"type":"EMAIL.CREATED"',
        b'{"type":"organizationInvitation.created","url":',
        b'{"type":"waitlistEntry.created"',
        *(f'{{"{name}": "1'.encode() for name in NAMES),
        rb'{"backup\u005fcodes":["1"',
    ],
)
def test_a_body_that_cannot_be_read_is_not_kept_where_it_may_hold_a_secret(body: bytes) -> None:
    assert unreadable_may_hold_secrets(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"type":"user.created","data":{"id":"user_1"',
        b'{"email_addresses":[{"object":"verification_otp","strategy":"ticket"',
        b'{"totp_enabled":true,"a":"x@email.com"',
        b"\xff",
    ],
)
def test_other_bodies_that_cannot_be_read_are_kept_as_they_are(body: bytes) -> None:
    assert not unreadable_may_hold_secrets(body)


def test_what_a_customer_names_like_a_secret_in_metadata_is_his_own() -> None:
    metadata = {"ticket": "T-1", "otp": "none", "backup_codes": ["c0de"]}
    event = {"type": "user.updated", "data": {"ticket": "t0k", "public_metadata": metadata}}
    kept, withheld = withhold(event, event_type="user.updated")
    assert withheld
    assert kept["data"]["ticket"] == WITHHELD
    assert kept["data"]["public_metadata"] == {"ticket": "T-1", "otp": "none", "backup_codes": WITHHELD}


ACTIVITY_OF_A_SESSION = {
    "object": "session_activity",
    "id": "sess_activity_1",
    "device_type": "Macintosh",
    "is_mobile": False,
    "browser_name": "Chrome",
    "browser_version": "128.0",
    "ip_address": "192.0.2.1",
    "city": "Zurich",
    "country": "CH",
}


@pytest.mark.parametrize("event_type", ["session.created", "user.updated", "galaxy.created"])
def test_where_a_person_is_and_what_device_they_use_is_withheld_wherever_it_stands(event_type: str) -> None:
    data = {
        "id": "sess_1",
        "latest_activity": {**ACTIVITY_OF_A_SESSION, "region": "added by Clerk later"},
        "sessions": [{"latest_activity": ACTIVITY_OF_A_SESSION}, {"latest_activity": None}, {"latest_activity": "x"}],
        "client": {"ip_address": "192.0.2.1", "user_agent": "Mozilla", "city": None},
        "public_metadata": {"city": "Zurich", "country": "CH", "latest_activity": {"city": "mine"}},
    }
    event = {"type": event_type, "data": data, "http_request": {"client_ip": "192.0.2.1"}}
    kept, withheld = withhold(event, event_type=event_type)
    activity = dict.fromkeys(ACTIVITY_OF_A_SESSION, "[withheld]") | {
        "object": "session_activity",
        "id": "sess_activity_1",
    }
    assert withheld
    assert kept == {
        "type": event_type,
        "http_request": WITHHELD,
        "data": {
            "id": "sess_1",
            "latest_activity": {**activity, "region": WITHHELD},
            "sessions": [{"latest_activity": activity}, {"latest_activity": None}, {"latest_activity": WITHHELD}],
            "client": {"ip_address": WITHHELD, "user_agent": WITHHELD, "city": None},
            "public_metadata": data["public_metadata"],
        },
    }
    assert may_be_personal(json.dumps(event).encode())
    assert withhold(event, event_type=event_type, keep_personal=True) == (event, False)


def test_in_a_body_that_cannot_be_read_the_values_of_personal_members_are_replaced() -> None:
    body = (
        b'{"type":"session.created","data":{"id":"sess_1","latest_activity":{"ip_address" : "192.0.2.1","city":"Z\\"u",'
        b'"is_mobile":true,"object":"session_activity"}},"event_attributes":{"http_request":{"client_ip":"192.0.2.1'
    )
    assert unreadable_without_personal(body) == (
        b'{"type":"session.created","data":{"id":"sess_1","latest_activity":{"ip_address" : "[withheld]",'
        b'"city":"[withheld]","is_mobile":"[withheld]","object":"session_activity"}},'
        b'"event_attributes":{"http_request":{"client_ip":"[withheld]"'
    )
    assert unreadable_without_personal(rb'{"ip\u005faddress":"192.0.2.1') is None
    assert unreadable_without_personal(b'{"a":1') == b'{"a":1'
