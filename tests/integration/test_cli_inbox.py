"""`nexus-auth inbox list` and `show`: what a person sees of an event, and a program too."""

import json
import re
from pathlib import Path

import pytest

from devtools.postgres import Database
from nexus_auth.clerk.signature import fingerprint
from tests.commandline import CommandLine, change, rows, store
from tests.events import INSTANCE, SECRET, T0, Signed, deleted, event, membership, user


@pytest.fixture
def nexus_auth(database: Database, tmp_path: Path) -> CommandLine:
    return CommandLine.of(database, tmp_path)


def test_list_shows_the_newest_first(database: Database, nexus_auth: CommandLine) -> None:
    ids = store(
        database,
        event("user.created", user("user_ada")),
        event("user.deleted", deleted("user", "user_ada")),
        event("session.created", {"object": "session", "id": "sess_1234567890", "user_id": "user_1234567890"}),
    )
    listed = nexus_auth("inbox", "list", "--output", "json").json()
    assert [entry["svix_id"] for entry in listed] == ids[::-1]
    assert [(entry["state"], entry["outcome"]) for entry in listed] == [
        ("waiting", None),
        ("applied", "deleted"),
        ("applied", "created"),
    ]
    assert listed[2]["object_id"] == "user_ada"
    assert listed[2]["secret"] == fingerprint(SECRET)
    assert listed[2]["observed_at"] == "2026-05-28T20:26:40.000Z"
    assert listed[2]["received_at"].endswith("Z")
    table = nexus_auth("inbox", "list", "--limit", "2")
    shown = [re.search(r"\bmsg_\w+", line) for line in table.out.splitlines()[1:]]
    assert [found[0] for found in shown if found] == ids[:0:-1]
    assert "there may be more" in table.err


def test_list_takes_filters_together(database: Database, nexus_auth: CommandLine) -> None:
    ada, grown, eve, member, broken = store(
        database,
        event("user.created", user("user_ada")),
        event("user.updated", user("user_ada", updated_at=T0 + 1)),
        event("user.created", user("user_eve")),
        event("organizationMembership.created", membership("orgmem_1", organization_id="org_1", user_id="user_ada")),
        b"{",
    )

    def found(*filters: str) -> set[str]:
        return {entry["svix_id"] for entry in nexus_auth("inbox", "list", "--output", "json", *filters).json()}

    assert found("--type", "user.created") == {ada, eve}
    assert found("--type", "user.*", "--id", "user_ada") == {ada, grown}
    assert found("--id", "user_ada") == {ada, grown, member}
    assert found("--id", ada, "--id", "user_eve") == {ada, eve}
    assert found("--state", "parked") == {broken}
    assert found("--type", "user_*") == found("--type", "%") == set()
    assert found("--since", "1h", "--until", "2099-01-01") == {ada, grown, eve, member, broken}
    assert found("--until", "1h") == set()
    (received,) = rows(database, "select received_at::text from clerk_private.inbox where svix_id = $1", eve)[0]
    assert found("--since", received) == {eve, member, broken}
    assert found("--until", received) == {ada, grown}


def test_list_says_when_nothing_matches(database: Database, nexus_auth: CommandLine) -> None:
    ran = nexus_auth("inbox", "list")
    assert (ran.code, ran.err) == (0, "no event matches\n")
    assert nexus_auth("inbox", "list", "--output", "json").json() == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--since", "yesterday"), "'yesterday' is no time"),
        (("--since", "999999w"), "is no time"),
        (("--since", "1h", "--until", "2h"), "--since must be before --until"),
        (("--state", "lost"), "'lost' is not one of"),
        (("--limit", "0"), "0 is not in the range"),
        (("--output", "yaml"), "'yaml' is not one of"),
        (("--nothing",), "No such option"),
    ],
)
def test_bad_input_is_told_before_anything_is_asked(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    ran = CommandLine(tmp_path)("inbox", "list", *arguments)
    assert ran.code == 2
    assert said in ran.err


def test_show_tells_everything_about_an_event(database: Database, nexus_auth: CommandLine) -> None:
    first = Signed(event("user.created", user("user_ada", first_name="Zoë")))
    store(database, first, event("user.updated", user("user_ada", updated_at=T0 + 5)))
    shown = nexus_auth("inbox", "show", first.svix_id, "--output", "json").json()
    assert shown["body"] == json.loads(first.body)
    assert shown["headers"].keys() == {"id", "timestamp", "signature"}
    assert shown["headers"]["signature"].startswith("v1,")
    assert shown["instance_id"] == INSTANCE
    assert shown["parked"] is None
    assert shown["object"]["updated_at"] == "2026-05-28T20:26:40.005Z"
    assert shown["object"]["from"] != first.svix_id
    ran = nexus_auth("inbox", "show", first.svix_id)
    for part in (
        first.svix_id,
        "user.created",
        "Zoë",
        "Headers",
        "Object as it stands now",
        shown["headers"]["signature"],
    ):
        assert part in ran.out
    assert nexus_auth("inbox", "show", first.svix_id, "--body").out.encode() == first.body


def test_show_says_why_an_event_is_parked(database: Database, nexus_auth: CommandLine) -> None:
    (unread,) = store(database, b'{"type": "user.created", "data": {"object": "user"}}')
    shown = nexus_auth("inbox", "show", unread, "--output", "json").json()
    assert (shown["state"], shown["parked"]["error"], shown["parked"]["resolved"]) == (
        "parked",
        "data.id is missing",
        None,
    )
    assert "data.id is missing" in nexus_auth("inbox", "show", unread).out
    assert "data.id is missing" in nexus_auth("inbox", "list").out
    (broken,) = store(database, b"\x01 no json")
    assert "\\x01 no json" in nexus_auth("inbox", "show", broken).out


def test_a_planted_escape_sequence_steers_no_terminal(database: Database, nexus_auth: CommandLine) -> None:
    (planted,) = store(database, event("user.\x1b[31mcreated", user("user_ada", last_name="\x9b2J\u202eevil")))
    for arguments in (("show", planted), ("list",), ("show", planted, "--output", "json")):
        ran = nexus_auth("inbox", *arguments)
        assert ran.code == 0
        assert not {"\x1b", "\x9b", "\u202e"} & set(ran.out)
    assert "\\x1b[31m" in nexus_auth("inbox", "list").out


def test_show_knows_what_never_came_and_what_is_past_keeping(database: Database, nexus_auth: CommandLine) -> None:
    ran = nexus_auth("inbox", "show", "msg_nobody")
    assert (ran.code, ran.err) == (1, "Error: no event msg_nobody was ever received, or it is forgotten by now\n")
    (gone,) = store(database, event("user.created", user("user_ada")))
    change(database, "delete from clerk_private.inbox")
    ran = nexus_auth("inbox", "show", gone)
    assert ran.code == 1
    assert "past keeping" in ran.err


def test_secrets_withheld_at_the_door_are_not_shown(database: Database, nexus_auth: CommandLine) -> None:
    data = {"object": "email", "id": "ema_1", "slug": "verification_code", "user_id": "user_ada", "body": "424242"}
    (message,) = store(database, event("email.created", data))
    ran = nexus_auth("inbox", "show", message)
    assert "424242" not in ran.out
    assert "parts of the body are not stored" in ran.out
    assert nexus_auth("inbox", "show", message, "--output", "json").json()["body"]["data"]["body"] == "[withheld]"
