"""The version decides which of two states is the later one; a time is read whatever its unit."""

import itertools
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_auth.clerk.version import API, LATEST, WEBHOOK, Version, milliseconds

T0 = 1_780_000_000_000


def test_versions_are_ordered_by_the_object_then_the_observation_then_who_saw_it_then_the_message() -> None:
    ascending = [
        Version(T0, T0, API, "z"),
        Version(T0 + 1, 0, WEBHOOK, ""),
        Version(T0 + 1, 1, WEBHOOK, "z"),
        Version(T0 + 1, 2, WEBHOOK, "a"),
        Version(T0 + 1, 2, WEBHOOK, "b"),
        Version(T0 + 1, 2, API, ""),
        Version(T0 + 2, 0, WEBHOOK, ""),
    ]
    assert all(earlier < later for earlier, later in itertools.pairwise(ascending))
    assert len(set(ascending)) == len(ascending)


def test_message_ids_are_compared_as_bytes_as_in_postgres() -> None:
    assert Version(1, 1, WEBHOOK, "msg_Z") < Version(1, 1, WEBHOOK, "msg_a")
    assert Version(1, 1, WEBHOOK, "msg_a") < Version(1, 1, WEBHOOK, "msg_aa")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (T0, T0),
        (T0 // 1000, T0),
        (1_716_883_200, 1_716_883_200_000),
        (1_780_000_000.5, 1_780_000_000_500),
        (Decimal("1780000000.5"), 1_780_000_000_500),
        (float(T0), T0),
        (0, 0),
        (99_999_999_999, 99_999_999_999_000),
        (100_000_000_000, 100_000_000_000),
        (LATEST, LATEST),
        (LATEST + 1, 0),
        (-1, 0),
        (True, 0),
        (None, 0),
        ("1780000000000", 0),
        ([T0], 0),
        (float("nan"), 0),
        (float("inf"), 0),
        (Decimal("NaN"), 0),
        (10**400, 0),
    ],
)
def test_a_time_is_read_in_seconds_and_in_milliseconds_and_anything_else_is_none(value: object, expected: int) -> None:
    assert milliseconds(value) == expected


@given(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.decimals(), st.text(), st.binary()))
def test_whatever_stands_there_a_time_fits_into_a_bigint(value: object) -> None:
    read = milliseconds(value)
    assert type(read) is int
    assert 0 <= read <= LATEST
