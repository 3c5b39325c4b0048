"""What goes wrong on the API on command: refusals, silence, broken connections, pages that are not what they seem.

A fault is a rule: a kind, how often it applies, and which requests it concerns. At most one applies to a request.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

from devtools.clerk_emulator import jsontext
from devtools.clerk_emulator.clerk_errors import ClerkError
from devtools.clerk_emulator.rules import Rule, Rules

ApiFaultKind = Literal["status", "timeout", "cut", "short_page", "empty_page", "repeat_page", "invalid_json", "date"]
API_FAULT_KINDS: tuple[ApiFaultKind, ...] = get_args(ApiFaultKind)
#: Kinds that concern a page of a list only.
_PAGES = frozenset({"short_page", "empty_page", "repeat_page"})

_ERRORS = {
    401: ("authentication_invalid", "Invalid authentication"),
    402: ("payment_required", "Payment required"),
    403: ("authorization_invalid", "Unauthorized request"),
    429: ("too_many_requests", "Too many requests. Please try again in a bit."),
    500: ("internal_clerk_error", "There was an internal error on our servers."),
    502: ("bad_gateway", "Bad gateway"),
    503: ("service_unavailable", "Service unavailable"),
    504: ("gateway_timeout", "Gateway timeout"),
}


@dataclass(frozen=True)
class ApiFault(Rule):
    """A rule."""

    kind: ApiFaultKind
    """``status`` answers with an error before anything is read or changed; ``timeout`` does not answer, or late;
    ``cut`` closes the connection in mid-body; ``short_page`` holds back rows at the end of a page that more rows
    follow; ``empty_page`` holds back all; ``repeat_page`` gives the route's last page again; ``invalid_json`` is half
    an answer that claims to be whole; ``date`` is about the ``Date`` header."""
    method: str = "GET"
    """Which method, as a glob."""
    route: str = "*"
    """Which routes, as a glob on the pattern without ``/v1``: ``/users``, ``/organizations/*``."""
    query: str = "*"
    """Which query strings, decoded, as a glob."""
    status: int = 500
    """``status``: the answer's."""
    retry_after: int | None = None
    """``status``: seconds in ``Retry-After``; a 429 without them says 1."""
    seconds: float | None = None
    """``timeout``: how long until an answer comes after all; None until the client leaves."""
    rows: int | None = None
    """``short_page``: how many rows are left; None is half of them."""
    minutes: float = 5.0
    """``date``: how far the header is off; negative is the past."""

    def __post_init__(self) -> None:
        """Raise ValueError for a rule that cannot work."""
        self.check_rule()
        if self.kind not in API_FAULT_KINDS:
            raise ValueError(f"kind is one of {', '.join(API_FAULT_KINDS)}")
        if not 400 <= self.status <= 599 or (self.rows is not None and self.rows < 0):
            raise ValueError("status is between 400 and 599, rows at least 0")
        if self.seconds is not None and self.seconds < 0:
            raise ValueError("seconds is null or at least 0")


class ApiFaults(Rules[ApiFault]):
    """The rules in force, and the last page of each route for those that repeat it."""

    def __init__(self, *, seed: int) -> None:
        """Begin without any."""
        super().__init__(seed=seed, prefix="api_fault_")
        self._last: dict[str, bytes] = {}

    def take(self, *, method: str, route: str, query: str, is_list: bool) -> ApiFault | None:
        """Return the first rule that applies to a request, and count it; a page fault to a request for a list only.

        ``repeat_page`` waits until the route has given a page.
        """
        if not len(self):
            return None

        def concerns(fault: ApiFault) -> bool:
            if fault.kind in _PAGES and (not is_list or (fault.kind == "repeat_page" and route not in self._last)):
                return False
            named = fnmatchcase(method, fault.method) and fnmatchcase(route, fault.route)
            return named and fnmatchcase(query, fault.query)

        return self.first(concerns)

    def remember(self, route: str, body: bytes) -> None:
        """Keep a route's last page."""
        self._last[route] = body

    def page(self, fault: ApiFault, *, route: str, body: bytes) -> bytes:
        """Return what a page fault makes of a page."""
        if fault.kind == "repeat_page":
            return self._last[route]
        page = jsontext.decode(body)
        rows: list[Any] = page if isinstance(page, list) else page["data"]
        kept = 0 if fault.kind == "empty_page" else len(rows) // 2 if fault.rows is None else fault.rows
        return jsontext.encode(rows[:kept] if isinstance(page, list) else page | {"data": rows[:kept]})


def refusal(status: int, *, retry_after: int | None = None) -> ClerkError:
    """Return an error that has nothing to do with what was asked."""
    code, message = _ERRORS.get(status, (f"error_{status}", f"Error {status}"))
    headers = {"Retry-After": str(retry_after)} if retry_after is not None else None
    return ClerkError(status, code=code, message=message, headers=headers)
