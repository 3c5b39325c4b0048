"""Reading what a request brings: JSON bodies against the route's parameters, and paging."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from devtools.clerk_emulator import jsontext
from devtools.clerk_emulator.clerk_errors import ClerkError, invalid_parameter, missing_parameter, unknown_parameter

#: One parameter of a body: ``string?`` may be null, ``string!`` must be there.
Declared = str

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "strings": (list,),
    "integer": (int,),
    "boolean": (bool,),
    "object": (dict,),
}
DEFAULT_LIMIT, MAX_LIMIT, MAX_VALUES = 10, 500, 100


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list, and in which order."""

    limit: int
    offset: int
    order_by: str
    descending: bool


@dataclass(frozen=True, slots=True)
class Signed:
    """Values of a filter: what is wanted (None: no restriction), and what is not."""

    wanted: frozenset[str] | None
    unwanted: frozenset[str]

    def accepts(self, value: str | None) -> bool:
        """Tell whether a value passes."""
        return value not in self.unwanted and (self.wanted is None or value in self.wanted)


async def body(request: web.Request, declared: Mapping[str, Declared], *, open_ended: bool = False) -> dict[str, Any]:
    """Return a JSON body's members; raise ClerkError (400, 422) for what the route does not take."""
    raw = await request.read()
    try:
        fields = jsontext.decode(raw) if raw.strip() else {}
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise ClerkError(
            400,
            code="request_body_invalid",
            message="Request body invalid",
            long_message="The request body is invalid. Please consult the API documentation for more information.",
        )
    for name, value in fields.items():
        if name in declared:
            _check(name, value, declared[name])
        elif not open_ended:
            raise unknown_parameter(name)
    for name, kind in declared.items():
        if kind.endswith("!") and name not in fields:
            raise missing_parameter(name)
    return fields


def _check(name: str, value: Any, declared: Declared) -> None:
    if value is None:
        if not declared.endswith("?"):
            raise invalid_parameter(name, "must not be null")
        return
    kind = declared.rstrip("?!")
    fits = isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
    if fits and kind == "strings":
        fits = all(isinstance(item, str) for item in value)
    if not fits:
        raise invalid_parameter(name, f"must be of type {kind}", code="form_param_type_invalid")


def page(request: web.Request, *, orders: tuple[str, ...], default: str = "-created_at") -> Page:
    """Return limit, offset and order of a list request; raise ClerkError (422).

    A ``+`` that was not percent-encoded arrives as a blank, and is refused as such.
    """
    limit = integer(request, "limit", default=DEFAULT_LIMIT, least=1, most=MAX_LIMIT)
    offset = integer(request, "offset", default=0, least=0)
    wanted = request.query.get("order_by") or default
    name = wanted[1:] if wanted[0] in "+-" else wanted
    if name not in orders:
        raise invalid_parameter("order_by", f"does not take {wanted}", code="form_param_value_invalid")
    return Page(limit=limit, offset=offset, order_by=name, descending=wanted[0] == "-")


def cursor(request: web.Request, page: Page) -> str | None:
    """Return ``starting_after``; raise ClerkError (422) beside an offset or another order than that of creation."""
    wanted = request.query.get("starting_after")
    if not wanted:
        return None
    if page.order_by != "created_at":
        raise invalid_parameter("starting_after", "requires ordering by created_at", code="form_param_value_invalid")
    if page.offset:
        raise invalid_parameter("starting_after", "cannot be combined with offset", code="form_param_value_invalid")
    return wanted


def several(request: web.Request, name: str) -> frozenset[str] | None:
    """Return the values of a parameter that may be repeated, None where it is absent; raise ClerkError (422)."""
    values = request.query.getall(name, ())
    if not values:
        return None
    if len(values) > MAX_VALUES:
        raise invalid_parameter(name, f"takes at most {MAX_VALUES} values", code="form_param_max_length_exceeded")
    return frozenset(values)


def signed(request: web.Request, name: str) -> Signed:
    """Return the values of a parameter whose values may be prepended with + or -; raise ClerkError (422)."""
    values = several(request, name) or frozenset()
    unwanted = frozenset(value[1:] for value in values if value.startswith("-"))
    wanted = frozenset(value.removeprefix("+") for value in values if not value.startswith("-"))
    return Signed(wanted=wanted or None, unwanted=unwanted)


def moment(request: web.Request, name: str) -> int | None:
    """Return a time in ms, None where it is absent; raise ClerkError (422)."""
    text = request.query.get(name)
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise invalid_parameter(name, "must be an integer") from None


def choice(request: web.Request, name: str) -> bool | None:
    """Return a boolean of the query, None where it is absent; raise ClerkError (422)."""
    text = request.query.get(name, "").lower()
    if not text:
        return None
    if text not in ("true", "false", "1", "0"):
        raise invalid_parameter(name, "must be a boolean")
    return text in ("true", "1")


def integer(request: web.Request, name: str, *, default: int, least: int, most: int | None = None) -> int:
    """Return a number of the query; raise ClerkError (422) where it is none or out of range."""
    text = request.query.get(name)
    if text is None or text == "":
        return default
    try:
        value = int(text)
    except ValueError:
        raise invalid_parameter(name, "must be an integer") from None
    if value < least or (most is not None and value > most):
        bounds = f"at least {least}" if most is None else f"between {least} and {most}"
        raise invalid_parameter(name, f"must be {bounds}", code="form_param_value_invalid")
    return value


def flag(request: web.Request, name: str) -> bool:
    """Return whether a boolean of the query is set."""
    return request.query.get(name, "").lower() in ("true", "1")
