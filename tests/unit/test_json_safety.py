"""JSON made safe: what Postgres refuses is replaced, everything else stays, nothing raises but `NotJson`."""

import contextlib
import json
import math
import sys
import time
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nexus_auth.clerk.json_safety import DEEPEST, NotJson, clean_text, depth, is_plain, parse

texts = st.text(st.characters(codec=None, exclude_categories=()), max_size=20)
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


def unsafe(value: Any) -> list[object]:
    """What of a value Postgres' jsonb, or a reader of it, would refuse."""
    if isinstance(value, str):
        return [c for c in value if c == "\x00" or "\ud800" <= c <= "\udfff"]
    if isinstance(value, dict):
        return [x for pair in value.items() for part in pair for x in unsafe(part)]
    if isinstance(value, list):
        return [x for member in value for x in unsafe(member)]
    if isinstance(value, bool) or value is None:
        return []
    if isinstance(value, int):
        return [] if -(2**63) <= value < 2**64 else [value]
    return [] if isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) <= 308 else [value]


@given(documents)
@example("\ud83d\ude00")
@example([float("inf"), 2**64, -(2**63) - 1, 10**5_000, 5e-324])
def test_whatever_json_says_the_value_is_safe_and_can_be_written_again(document: Any) -> None:
    for ensure_ascii in (True, False):
        try:
            body = _dumped(document, ensure_ascii=ensure_ascii).encode("utf-8")
        except UnicodeEncodeError:
            continue  # a lone surrogate is no UTF-8: it can come as an escape only
        value = parse(body)
        assert unsafe(value) == []
        written = msgspec.json.Encoder(decimal_format="number").encode(value)
        assert parse(written) == value


def _dumped(document: Any, *, ensure_ascii: bool) -> str:
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        return json.dumps(document, ensure_ascii=ensure_ascii)
    finally:
        sys.set_int_max_str_digits(limit)


@given(documents)
def test_a_body_that_is_called_plain_needs_no_replacing(document: Any) -> None:
    body = json.dumps(document).encode()
    if is_plain(body) and not any(isinstance(leaf, float) for leaf in _leaves(document)):
        assert parse(body) == document


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for member in value.values() for leaf in _leaves(member)]
    return [leaf for member in value for leaf in _leaves(member)] if isinstance(value, list) else [value]


@given(st.binary(max_size=200))
@example(b"\xff")
@example(b"\xed\xa0\x80")
@example(b'"\\u')
@example(b"[" * 100_000)
@example(b"1" * 100_000)
@example(b"1e" + b"9" * 10_000)
def test_any_bytes_are_parsed_or_refused_in_one_way(body: bytes) -> None:
    is_plain(body)
    with contextlib.suppress(NotJson):
        parse(body)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (r'"x\u0000y"', "x\ufffdy"),
        (r'"x\\u0000y"', r"x\u0000y"),
        (r'"\ud83d\ude00"', "\U0001f600"),
        (r'"\ud83d"', "\ufffd"),
        ("9007199254740993", 2**53 + 1),
        ("18446744073709551615", 2**64 - 1),
        ("18446744073709551616", "18446744073709551616"),
        ("-9223372036854775808", -(2**63)),
        ("-9223372036854775809", "-9223372036854775809"),
        ("1" * 5_000, "1" * 5_000),
        ("1e400", None),
        ("-1e400", None),
        ("NaN", None),
        ("Infinity", None),
        ("1e308", Decimal("1e308")),
        ("1.10", Decimal("1.10")),
        ("0.1234567890123456789", Decimal("0.1234567890123456789")),
        ("5e-324", 0),
        ("1e-9999999999999999999", 0),
        ("0e9999999999999999999", 0),
        ('{"a":1,"a":2}', {"a": 2}),
        ("\ufeff[1]", [1]),
    ],
)
def test_what_cannot_stay_is_replaced_and_the_rest_stays_exact(written: str, read: object) -> None:
    assert parse(written.encode()) == read


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_what_is_nested_too_deep_is_cut_there_and_nowhere_else(opening: str) -> None:
    closing = "]" if opening == "[" else "}"

    def nested(levels: int) -> bytes:
        return f'{{"before":"[[{{","deep":{opening * levels}1{closing * levels},"behind":2}}'.encode()

    whole = parse(nested(DEEPEST - 1))
    assert is_plain(nested(DEEPEST - 1))
    assert "too deep" not in json.dumps(whole)
    for levels in (DEEPEST, 1_000, 50_000):
        assert not is_plain(nested(levels))
        cut = parse(nested(levels))
        assert (cut["before"], cut["behind"]) == ("[[{", 2)
        text = json.dumps(cut)
        assert depth(text) == DEEPEST
        assert '"[too deep]"' in text


def test_brackets_in_texts_are_no_depth() -> None:
    assert depth(json.dumps("[" * 1_000)) == 0
    assert depth('"\\"[" [') == 1
    assert depth('["\\\\", [1]]') == 2
    assert is_plain(json.dumps(["[{" * 1_000]).encode())


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 200 + b'"' + b'\\"' * 250_000,
        b"[" * 200 + b'"' * 500_001,
        b"[" * 500_000,
        b"1" * 1_000_000,
        b"[" * 200 + b"\\" * 500_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'"\\u0000' * 100_000,
    ],
)
def test_a_megabyte_of_malice_takes_no_more_time_than_a_megabyte(body: bytes) -> None:
    started = time.process_time()
    is_plain(body)
    with contextlib.suppress(NotJson):
        parse(body)
    assert time.process_time() - started < 5


@given(texts)
def test_a_text_is_cleaned_to_what_utf_8_and_postgres_hold(text: str) -> None:
    cleaned = clean_text(text)
    assert "\x00" not in cleaned
    assert cleaned.encode("utf-8").decode("utf-8") == cleaned
    assert len(cleaned) == len(text)


def test_numbers_that_are_written_again_are_not_rounded() -> None:
    written = b'{"a":1.10,"b":0.1234567890123456789,"c":123456789012345678,"d":1e-7,"e":-0.0}'
    again = msgspec.json.Encoder(decimal_format="number").encode(parse(written))
    assert json.loads(again, parse_float=Decimal) == json.loads(written, parse_float=Decimal)
    assert math.isfinite(json.loads(again)["d"])
