"""Metadata as Clerk treats it: merged deeply or replaced, null removes a key when merging, 8 KB at most."""

from typing import Any

from devtools.clerk_emulator import jsontext
from devtools.clerk_emulator.clerk_errors import invalid_parameter

MAX_BYTES = 8_192


def merged(old: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """Return ``old`` with ``change`` merged into it at every depth; null removes a key."""
    result = dict(old)
    for key, value in change.items():
        present = result.get(key)
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(present, dict):
            result[key] = merged(present, value)
        else:
            result[key] = value
    return result


def checked(name: str, value: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata; raise ClerkError (422) where it is too large."""
    if len(jsontext.encode(value)) > MAX_BYTES:
        raise invalid_parameter(name, f"is larger than {MAX_BYTES} bytes", code="form_param_exceeds_allowed_size")
    return value
