r"""JSON that end users can plant things in, made safe for Postgres without losing the event.

`unsafe_metadata` is writable from a browser. One `\u0000`, lone surrogate, number of 5,000 digits or tower of brackets
makes every later event of that user fail in SQL, and every batch that it shares. So what Postgres refuses is replaced
in the parsed value (never in the bytes: `\\u0000` is legal text), the signed bytes are kept as they came.

Traded: the common body pays three scans in C (2 µs for 2 KB) and goes on unparsed; only a suspect one is walked.
Measured rules: jsonb refuses U+0000 and lone surrogates; it takes numbers of 131,072 digits and depth 6,000, but what
reads it afterwards (Python, JavaScript) does not.
"""

import json
import math
import re
from decimal import Decimal
from typing import Any

DEEPEST = 128
"""Levels of nesting that are kept; Clerk's own objects use about ten."""

TOO_DEEP = '"[too deep]"'
REPLACEMENT = "\ufffd"

_HARMLESS_ESCAPES = (b"\\u0026", b"\\u003c", b"\\u003e", b"\\u2028", b"\\u2029")
"""What Go's encoder writes for & < > and two separators: they occur in every second body."""

_SHAPE = bytes.maketrans(b"0123456789eE[{:, \t\r\n", b"0000000000ee[[::::::")
"""Without signs and points, a number is zeros behind : or [; behind anything else the same digits are text, as the 21
of an id of Google's."""
_LONG = b"0" * 19
_EXPONENT = re.compile(rb"[:\[]0+e000")
"""Numbers that may not fit into 64 bits."""
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{]|[\]}]', re.DOTALL)
"""A string may lack its closing quote. The possessive quantifiers keep the search linear in that case too."""

_UNSAFE_TEXT = re.compile("[\x00\ud800-\udfff]")


class NotJson(ValueError):
    """The bytes are no JSON document; the text says where."""


def is_plain(body: bytes) -> bool:
    """Whether the body can go to Postgres as it stands. A wrong False costs time; a wrong True makes a batch fail."""
    escapes = body.count(b"\\u")
    if escapes and escapes != sum(body.count(harmless) for harmless in _HARMLESS_ESCAPES):
        return False
    shape = b":" + body.translate(_SHAPE, b"+-.")
    if b":" + _LONG in shape or b"[" + _LONG in shape or (b"0e000" in shape and _EXPONENT.search(shape)):
        return False
    return shape.count(b"[") <= DEEPEST or depth(body.decode("utf-8", "replace")) <= DEEPEST


def parse(body: bytes) -> Any:
    """The value of a suspect body with everything unsafe replaced.

    U+0000 and lone surrogates become U+FFFD, integers from 2^64 on become strings, what is not finite becomes null,
    what is nested deeper than `DEEPEST` becomes "[too deep]". Raises `NotJson`.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NotJson(f"{error.reason} (byte {error.start})") from None
    if depth(text) > DEEPEST:
        text = _pruned(text)
    try:
        value = json.loads(text, parse_int=_integer, parse_float=_number, parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:
        raise NotJson(str(error)[:200]) from None
    return _clean(value)


def clean_text(text: str) -> str:
    """A string without U+0000 and lone surrogates: what Postgres' text and UTF-8 can hold."""
    return _UNSAFE_TEXT.sub(REPLACEMENT, text)


def depth(text: str) -> int:
    """The deepest nesting of arrays and objects, by tokens: it does not recurse, however deep."""
    deepest = level = 0
    for token in _TOKEN.finditer(text):
        match text[token.start()]:
            case "[" | "{":
                level += 1
                deepest = max(deepest, level)
            case "]" | "}":
                level -= 1
    return deepest


def _pruned(text: str) -> str:
    kept: list[str] = []
    level = position = 0
    for token in _TOKEN.finditer(text):
        match text[token.start()]:
            case "[" | "{":
                level += 1
                if level == DEEPEST + 1:
                    kept.append(text[position : token.start()])
            case "]" | "}":
                if level == DEEPEST + 1:
                    kept.append(TOO_DEEP)
                    position = token.end()
                level -= 1
    kept.append(text[position:])
    return "".join(kept)


def _integer(digits: str) -> int | str:
    if len(digits) > 20:
        return digits
    value = int(digits)
    return value if -(2**63) <= value < 2**64 else digits


def _number(literal: str) -> Decimal | None:
    value = float(literal)
    if not math.isfinite(value):
        return None
    if value == 0:  # so it may be too small for Decimal too
        return Decimal("-0.0" if literal.startswith("-") else "0.0")
    exact = Decimal(literal) if len(literal) <= 40 else Decimal(repr(value))
    return exact if -308 <= exact.adjusted() <= 308 else Decimal(0)


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {clean_text(key): _clean(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_clean(member) for member in value]
    return value
