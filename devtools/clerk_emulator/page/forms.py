"""The forms of the page, and what each of them does: one entry per change and per fault."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from devtools.clerk_emulator import samples
from devtools.clerk_emulator.control.parts import Parts
from devtools.clerk_emulator.delivery.endpoints import Endpoint
from devtools.clerk_emulator.delivery.faults import Fault
from devtools.clerk_emulator.delivery.messages import now_ms
from devtools.clerk_emulator.events import check_types

Values = Mapping[str, str]


@dataclass(frozen=True)
class Field:
    """An input of a form."""

    name: str
    label: str
    value: str = ""
    kind: str = "text"
    required: bool = False
    choices: tuple[str, ...] = ()
    step: str = "any"


@dataclass(frozen=True)
class Form:
    """A form and what it does; ``run`` returns the sentence that the page shows afterwards."""

    name: str
    title: str
    button: str
    run: Callable[[Parts, Values], str]
    fields: tuple[Field, ...] = ()
    danger: bool = False


_USER = Field("user_id", "User id", required=True)
_ORGANIZATION = Field("organization_id", "Organization id or slug", required=True)
_ROLE = Field("role", "Role", choices=("org:member", "org:admin"))
_FIRST = Field("first_name", "First name")
_LAST = Field("last_name", "Last name")
_TYPES = Field("types", "Event types", value="*")
_RATE = Field("rate", "Share of them (0 to 1)", value="1", kind="number")
_NEXT = Field("next", "Only the next n", kind="number", step="1")


def _create_user(parts: Parts, values: Values) -> str:
    fields: dict[str, Any] = {"email_address": [values["email_address"]]}
    user = parts.changes.users.create(fields | _given(values, "first_name", "last_name", "username"))
    return f"{user.id} was created"


def _update_user(parts: Parts, values: Values) -> str:
    user = parts.changes.users.update(
        values["user_id"], _given(values, "first_name", "last_name", "username", "external_id")
    )
    return f"{user.id} was updated"


def _delete_user(parts: Parts, values: Values) -> str:
    parts.changes.users.delete(values["user_id"])
    return f"{values['user_id']} was deleted"


def _create_organization(parts: Parts, values: Values) -> str:
    organization = parts.changes.organizations.create(_given(values, "name", "slug", "created_by"))
    return f"{organization.id} was created"


def _update_organization(parts: Parts, values: Values) -> str:
    organization = parts.changes.organizations.update(values["organization_id"], _given(values, "name", "slug"))
    return f"{organization.id} was updated"


def _delete_organization(parts: Parts, values: Values) -> str:
    parts.changes.organizations.delete(values["organization_id"])
    return f"{values['organization_id']} was deleted"


def _create_membership(parts: Parts, values: Values) -> str:
    membership = parts.changes.memberships.create(
        organization_id=values["organization_id"], user_id=values["user_id"], role=values["role"]
    )
    return f"{membership.id} was created"


def _update_membership(parts: Parts, values: Values) -> str:
    membership = parts.changes.memberships.update(
        organization_id=values["organization_id"], user_id=values["user_id"], role=values["role"]
    )
    return f"{membership.id} was updated"


def _delete_membership(parts: Parts, values: Values) -> str:
    shape = parts.changes.memberships.delete(organization_id=values["organization_id"], user_id=values["user_id"])
    return f"{shape['id']} was deleted"


def _emit(parts: Parts, values: Values) -> str:
    event_type = values["type"]
    message = parts.events.emit(event_type, samples.sample(event_type, state=parts.state))
    return f"{event_type} was sent as {message.id}"


def _fault(kind: str, *numbers: str) -> Callable[[Parts, Values], str]:
    def run(parts: Parts, values: Values) -> str:
        check_types(values.get("types") or "*")
        rule: dict[str, Any] = {"kind": kind, "types": values.get("types") or "*"}
        if values.get("rate"):
            rule["rate"] = float(values["rate"])
        if values.get("next"):
            rule["next"] = int(values["next"])
        for name in numbers:
            if values.get(name):
                rule[name] = int(values[name]) if name in ("copies", "window") else float(values[name])
        return f"{parts.dispatcher.faults.add(Fault(**rule)).id} ({kind}) is in force"

    return run


CHANGES = (
    Form(
        "create_user",
        "Create a user",
        "Create",
        _create_user,
        (
            Field("email_address", "E-mail address", kind="email", required=True),
            _FIRST,
            _LAST,
            Field("username", "Username"),
        ),
    ),
    Form(
        "update_user",
        "Update a user",
        "Update",
        _update_user,
        (_USER, _FIRST, _LAST, Field("username", "Username"), Field("external_id", "External id")),
    ),
    Form("delete_user", "Delete a user", "Delete", _delete_user, (_USER,), danger=True),
    Form(
        "create_organization",
        "Create an organization",
        "Create",
        _create_organization,
        (Field("name", "Name", required=True), Field("slug", "Slug"), Field("created_by", "Creator's user id")),
    ),
    Form(
        "update_organization",
        "Update an organization",
        "Update",
        _update_organization,
        (_ORGANIZATION, Field("name", "Name"), Field("slug", "Slug")),
    ),
    Form(
        "delete_organization", "Delete an organization", "Delete", _delete_organization, (_ORGANIZATION,), danger=True
    ),
    Form("create_membership", "Add a member", "Add", _create_membership, (_ORGANIZATION, _USER, _ROLE)),
    Form("update_membership", "Change a member's role", "Change", _update_membership, (_ORGANIZATION, _USER, _ROLE)),
    Form("delete_membership", "Remove a member", "Remove", _delete_membership, (_ORGANIZATION, _USER), danger=True),
    Form("emit", "Send a sample event", "Send", _emit, (Field("type", "Type", choices=samples.SAMPLED),)),
)

FAULTS = (
    Form("lose", "Lose events", "Lose", _fault("lose"), (_TYPES, _RATE, _NEXT)),
    Form(
        "delay",
        "Delay events",
        "Delay",
        _fault("delay", "seconds"),
        (Field("seconds", "Seconds", value="2", kind="number"), _TYPES, _RATE, _NEXT),
    ),
    Form(
        "duplicate",
        "Duplicate events",
        "Duplicate",
        _fault("duplicate", "copies", "seconds"),
        (
            Field("copies", "Copies", value="1", kind="number", step="1"),
            Field("seconds", "Seconds later", value="1", kind="number"),
            _TYPES,
            _RATE,
            _NEXT,
        ),
    ),
    Form(
        "reorder",
        "Reorder events",
        "Reorder",
        _fault("reorder", "window", "seconds"),
        (
            Field("window", "Events gathered", value="5", kind="number", step="1"),
            Field("seconds", "Held at most (s)", value="2", kind="number"),
            _TYPES,
            _RATE,
        ),
    ),
    Form("wrong_signature", "Sign wrongly", "Sign wrongly", _fault("wrong_signature"), (_TYPES, _RATE, _NEXT)),
    Form("break_connection", "Break the connection", "Break", _fault("break_connection"), (_TYPES, _RATE, _NEXT)),
    Form(
        "clock",
        "Set the clock wrong",
        "Set",
        _fault("clock", "signature_minutes", "event_minutes"),
        (
            Field("signature_minutes", "Signature off by (min)", value="-10", kind="number"),
            Field("event_minutes", "Event off by (min)", value="0", kind="number"),
            _TYPES,
            _RATE,
        ),
    ),
)


def _endpoint(parts: Parts, values: Values) -> Endpoint:
    endpoint = parts.dispatcher.endpoint(values.get("endpoint_id", ""))
    if endpoint is None:
        raise ValueError("no such endpoint")
    return endpoint


def _enable(*, enabled: bool) -> Callable[[Parts, Values], str]:
    def run(parts: Parts, values: Values) -> str:
        endpoint = _endpoint(parts, values)
        parts.dispatcher.enable(endpoint, enabled=enabled)
        return f"{endpoint.id} is {'enabled' if enabled else 'disabled'}"

    return run


def _rotate(parts: Parts, values: Values) -> str:
    endpoint = _endpoint(parts, values)
    endpoint.rotate(parts.dispatcher.new_secret(), now_ms=now_ms())
    return f"{endpoint.id} signs with a new secret, and with the old one for a day"


def _lift(parts: Parts, values: Values) -> str:
    parts.dispatcher.faults.remove(values.get("fault_id", ""))
    return f"{values.get('fault_id')} was lifted"


def _pause(parts: Parts, _: Values) -> str:
    parts.dispatcher.pause()
    return "delivery is paused"


def _resume(parts: Parts, _: Values) -> str:
    parts.dispatcher.resume()
    return "delivery goes on"


def _resend(parts: Parts, values: Values) -> str:
    message = parts.dispatcher.log.get(values.get("message_id", ""))
    if message is None:
        raise ValueError("no such message")
    parts.dispatcher.resend(message)
    return f"{message.id} is sent again"


def _given(values: Values, *names: str) -> dict[str, str]:
    return {name: values[name] for name in names if values.get(name)}


#: Buttons that stand beside what they act on.
BUTTONS = (
    Form("enable_endpoint", "", "Enable", _enable(enabled=True)),
    Form("disable_endpoint", "", "Disable", _enable(enabled=False)),
    Form("rotate_secret", "", "Rotate secret", _rotate),
    Form("lift_fault", "", "Lift", _lift),
    Form("pause", "", "Pause delivery", _pause),
    Form("resume", "", "Resume delivery", _resume),
    Form("resend", "", "Resend", _resend),
)
BY_NAME = {form.name: form for form in (*CHANGES, *FAULTS, *BUTTONS)}
