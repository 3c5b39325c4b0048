"""`nexus-auth forget`: what past events said of a deleted person goes, and nothing brings it back."""

from pathlib import Path

from devtools.postgres import Database
from tests.commandline import CommandLine, mirror, rows, store
from tests.events import deleted, event, user

BODIES = "select count(*) from clerk_private.inbox where convert_from(body, 'UTF8') like '%Byronking%'"


def test_events_of_a_deleted_person_are_emptied_and_stay_harmless(database: Database, tmp_path: Path) -> None:
    nexus_auth = CommandLine.of(database, tmp_path)
    created, _ = store(
        database,
        event("user.created", user("user_ada", first_name="Ada", last_name="Byronking")),
        event("user.created", user("user_grace")),
    )
    live = nexus_auth("forget", "user_ada", "--yes")
    assert (live.code, "delete it in Clerk first; nothing was erased" in live.err) == (1, True)
    assert nexus_auth("forget", "user_ada").code == 2
    store(database, event("user.deleted", deleted("user", "user_ada")))
    assert rows(database, BODIES) == [(1,)]

    ran = nexus_auth("forget", "user_ada", "--yes", "--output", "json")
    assert ran.code == 0, ran.err
    assert ran.json()["events"] == 2
    assert rows(database, BODIES) == [(0,)]
    shown = nexus_auth("inbox", "show", created, "--output", "json").json()
    assert (shown["outcome"], shown["body"]["data"]) == ("erased", "[erased]")

    before = mirror(database)
    again = nexus_auth("replay", "--all", "--output", "json")
    assert (again.code, again.json()["outcomes"]) == (0, {"unchanged": 1})
    assert mirror(database) == before
    assert nexus_auth("forget", "user_ada", "--yes").out == (
        "user_ada: 0 events were emptied, 0 refused objects were removed\n"
    )
