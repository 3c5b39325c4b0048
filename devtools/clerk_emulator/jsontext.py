"""JSON in and out, as a Go server would treat it.

Out: compact, not ASCII-escaped. In: strict (no NaN), lone surrogates become U+FFFD, as Go's decoder does; integers
stay exact however long they are, up to Python's own limit of 4,300 digits.
"""

import json
import re
from typing import Any, NoReturn

import msgspec

_SURROGATE = re.compile("[\ud800-\udfff]")


def encode(value: Any) -> bytes:
    """Return compact UTF-8 JSON."""
    try:
        return msgspec.json.encode(value)
    except (OverflowError, TypeError, ValueError):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _mended(value: Any) -> Any:
    match value:
        case str():
            return _SURROGATE.sub("\ufffd", value)
        case list():
            return [_mended(item) for item in value]
        case dict():
            return {_mended(key): _mended(item) for key, item in value.items()}
    return value


def decode(text: bytes | str) -> Any:
    """Read JSON; raise ValueError (UnicodeDecodeError is one) for what is none."""
    try:
        value = json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return _mended(value) if (b"\\ud" in text.lower() if isinstance(text, bytes) else "\\ud" in text.lower()) else value
