"""The common event takes the short way through the envelope, and both ways come to the same."""

import msgspec
import pytest

from devtools.clerk_emulator import shapes
from devtools.clerk_emulator.state.population import Population
from nexus_auth.clerk import envelope, json_safety, privacy
from nexus_auth.clerk.catalogue import WITHHELD_EVERYWHERE

USERS = 500
T0 = 1_780_000_000_000
READ = ("type", "observed_at", "state", "error", "kind", "id", "deleted", "updated_at", "body", "withheld")


def users() -> list[dict[str, object]]:
    population = Population(seed=11, users=USERS, organizations=0, memberships=0)
    return [shapes.user(population.user(slot)) for slot in range(USERS)]


def body_of(user: object) -> bytes:
    return msgspec.json.encode(
        {"data": user, "object": "event", "type": "user.updated", "timestamp": 1_780_000_000_000}
    )


def test_a_user_as_clerk_sends_it_goes_to_postgres_as_the_bytes_that_it_is() -> None:
    for user in users():
        body = body_of(user)
        assert json_safety.is_plain(body), body
        held = [phone for phone in user["phone_numbers"] if phone.get("backup_codes")]  # type: ignore[attr-defined]
        assert privacy.may_hold_secrets(body, event_type="user.updated") == bool(held), body
        assert envelope.read(body).withheld == bool(held)


def test_both_ways_read_the_same() -> None:
    for user in users():
        body = body_of(user)
        short = envelope.read(body)
        thorough = envelope._read_document(json_safety.parse(body), body, keep_event_attributes=False)
        for name in (
            "type",
            "observed_at",
            "state",
            "error",
            "kind",
            "id",
            "deleted",
            "updated_at",
            "body",
            "withheld",
        ):
            assert getattr(short, name) == getattr(thorough, name), name
        assert msgspec.json.decode(short.object_json or "") == msgspec.json.decode(thorough.object_json or "")


@pytest.mark.parametrize("digits", ["104672198374650192837", "1e400", "7e123", "0.1e-999", "-9223372036854775809"])
@pytest.mark.parametrize("before", ["", " ", "[", "[1,", "\t"])
def test_a_number_that_may_not_fit_is_suspect_and_the_same_digits_in_a_text_are_not(digits: str, before: str) -> None:
    closed = "]" if "[" in before else ""
    assert not json_safety.is_plain(f'{{"a":{before}{digits}{closed}}}'.encode())
    assert json_safety.is_plain(f'{{"a":{before}"{digits}"{closed}}}'.encode())
    assert not json_safety.is_plain(digits.encode())


@pytest.mark.parametrize("name", sorted(WITHHELD_EVERYWHERE))
def test_a_member_with_a_secret_is_seen_whatever_white_space_says(name: str) -> None:
    for space in ("", " ", "\n\t "):
        for value in ('"x"', "[]", "0", '["null"]'):
            assert privacy.may_hold_secrets(f'{{"{name}"{space}:{space}{value}}}'.encode(), event_type="user.updated")
        nothing = f'{{"{name}"{space}:{space}null,"x_{name}":"y","{name}_at":1}}'.encode()
        assert not privacy.may_hold_secrets(nothing, event_type="user.updated")
