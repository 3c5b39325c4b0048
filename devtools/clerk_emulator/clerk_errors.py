"""Clerk's errors: one exception that any room may raise and the API renders in Clerk's form.

Codes and wording follow what the live API answers where that is known, and Clerk's error catalogue otherwise; tests
of the product should look at status and ``code`` only.
"""

from typing import Any


class ClerkError(Exception):
    """A refusal as Clerk would word it."""

    def __init__(
        self,
        status: int,
        *,
        code: str,
        message: str,
        long_message: str = "",
        meta: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Remember the HTTP status, headers, and the members of one entry of ``errors``."""
        super().__init__(f"{status} {code}: {long_message or message}")
        self.status = status
        self.code = code
        self.message = message
        self.long_message = long_message or message
        self.meta = meta
        self.headers = headers or {}

    def body(self, *, trace_id: str) -> dict[str, Any]:
        """Return the answer's body."""
        error: dict[str, Any] = {"message": self.message, "long_message": self.long_message, "code": self.code}
        if self.meta:
            error["meta"] = self.meta
        return {"errors": [error], "clerk_trace_id": trace_id}


def not_found(kind: str, identifier: str) -> ClerkError:
    """Return the 404 for an object that does not exist."""
    return ClerkError(
        404, code="resource_not_found", message="not found", long_message=f"No {kind} was found with id {identifier}."
    )


def invalid_parameter(name: str, reason: str, *, code: str = "form_param_format_invalid") -> ClerkError:
    """Return the 422 for a parameter that Clerk would not take."""
    return ClerkError(422, code=code, message="is invalid", long_message=f"{name} {reason}.", meta={"param_name": name})


def unknown_parameter(name: str) -> ClerkError:
    """Return the 422 for a parameter that the route does not know."""
    return ClerkError(
        422,
        code="form_param_unknown",
        message="is unknown",
        long_message=f"{name} is not a valid parameter for this request.",
        meta={"param_name": name},
    )


def missing_parameter(name: str) -> ClerkError:
    """Return the 422 for a required parameter that is absent."""
    return ClerkError(
        422,
        code="form_param_missing",
        message="is missing",
        long_message=f"{name} must be included.",
        meta={"param_name": name},
    )


def identifier_taken(name: str) -> ClerkError:
    """Return the 422 for an identifier that another object has."""
    return ClerkError(
        422,
        code="form_identifier_exists",
        message=f"That {name.replace('_', ' ')} is taken. Please try another.",
        meta={"param_name": name},
    )
