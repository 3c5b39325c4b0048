"""What the reader of JSON lets through, Postgres takes: nobody's batch fails on what somebody planted."""

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devtools.postgres import Database, fetch
from nexus_auth.clerk import json_safety

every_character = st.characters(codec=None, exclude_categories=())
texts = st.text(every_character | st.sampled_from('\x00\ud800\udfff\\"u0['), max_size=12)
written_numbers = st.from_regex(
    r"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,7})?", fullmatch=True, alphabet="0123456789.eE+-"
)


def written(value: Any) -> str:
    """JSON of a value in which the numbers are texts behind a mark."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{written(key)}:{written(member)}" for key, member in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    return value[0] if isinstance(value, tuple) else json.dumps(value)


documents = st.recursive(
    st.none() | st.booleans() | texts | st.tuples(written_numbers),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=15,
)
one_database = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@one_database
@given(st.lists(documents.map(written), min_size=5, max_size=15))
def test_jsonb_takes_whatever_was_made_safe_and_gives_it_back(database: Database, bodies: list[str]) -> None:
    encode = msgspec.json.Encoder(decimal_format="number").encode
    safe = [encode(json_safety.parse(body.encode())).decode() for body in bodies]
    rows = fetch(
        database.admin_url,
        "select (t::jsonb)::text from unnest($1::text[]) with ordinality as u (t, n) order by n",
        safe,
    )
    assert [exact(row[0]) for row in rows] == [exact(text) for text in safe]


def exact(text: str) -> Any:
    """A document with numbers that know every digit."""
    return json.loads(text, parse_int=Decimal, parse_float=Decimal)


@one_database
@given(st.lists(documents.map(written), min_size=5, max_size=15))
def test_jsonb_takes_a_body_that_is_called_plain_as_it_stands(database: Database, bodies: list[str]) -> None:
    plain = [body for body in bodies if json_safety.is_plain(body.encode())]
    rows = fetch(database.admin_url, "select length((t::jsonb)::text) from unnest($1::text[]) t", plain)
    for (length,), body in zip(rows, plain, strict=True):
        assert length <= len(body) * 6 + 100 * body.lower().count("e")  # exponents of two digits are let through


@pytest.mark.parametrize("levels", [json_safety.DEEPEST, 6_000, 200_000])
def test_jsonb_takes_the_deepest_that_is_kept(database: Database, levels: int) -> None:
    value = json_safety.parse(b'{"a":[' * levels + b"1" + b"]}" * levels)
    assert (
        fetch(database.admin_url, "select jsonb_typeof($1::jsonb)", msgspec.json.encode(value).decode())[0][0]
        == "object"
    )
