"""Objects of a list whose times are in seconds are read in milliseconds, as those of events are."""

import json

import pytest

from nexus_auth.clerk.api import Answer
from nexus_auth.clerk.catalogue import ENTITIES
from nexus_auth.clerk.version import SECONDS_BELOW, SECONDS_FROM, object_time
from nexus_auth.reconcile.answers import change_of, page_of

SECONDS = 1_780_000_000


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (0, 0),
        (1, 1),
        (SECONDS_FROM - 1, SECONDS_FROM - 1),
        (SECONDS_FROM, SECONDS_FROM * 1000),
        (SECONDS, SECONDS * 1000),
        (SECONDS_BELOW - 1, (SECONDS_BELOW - 1) * 1000),
        (SECONDS_BELOW, SECONDS_BELOW),
        (SECONDS * 1000, SECONDS * 1000),
    ],
)
def test_a_number_of_ten_or_eleven_digits_is_seconds(value: int, read: int) -> None:
    assert object_time(value) == read


@pytest.mark.parametrize("group", ["user", "organization"])
def test_a_listed_object_in_seconds_is_the_change_that_its_event_is(group: str) -> None:
    entity = ENTITIES[group]
    assert entity.listing is not None
    objects = [{"id": "thing_1", "created_at": SECONDS, "updated_at": SECONDS}]
    body = json.dumps({"data": objects, "total_count": 1} if entity.listing.paged else objects).encode()
    (item,) = page_of(Answer(body=body, asked_at=10), entity.listing).items
    assert item.updated_at == SECONDS * 1000
    change = change_of(item, entity)
    assert change[3] == SECONDS * 1000
    assert json.loads(change[-1] or "") == {
        "id": "thing_1",
        "created_at": SECONDS * 1000,
        "updated_at": SECONDS * 1000,
    }
