"""`nexus-auth inbox verify`: a stored event is what Clerk signed, or somebody is told."""

from pathlib import Path

import pytest

from devtools.postgres import Database
from nexus_auth.clerk.signature import fingerprint
from tests.commandline import CommandLine, change, store
from tests.events import OTHER_SECRET, SECRET, Signed, event, user


@pytest.fixture
def nexus_auth(database: Database, tmp_path: Path) -> CommandLine:
    return CommandLine.of(database, tmp_path)


def verdicts(nexus_auth: CommandLine, *arguments: str, **environment: str) -> dict[str, str]:
    ran = nexus_auth("inbox", "verify", "--output", "json", *arguments, **environment)
    return {finding["svix_id"]: finding["verdict"] for finding in ran.json()["findings"]}


def test_what_the_webhook_stored_verifies_long_after(database: Database, nexus_auth: CommandLine) -> None:
    ids = store(database, event("user.created", user("user_ada", first_name="Zoë")), event("session.created", {}), b"{")
    ran = nexus_auth("inbox", "verify", "--output", "json")
    assert ran.code == 0
    assert ran.json()["counts"] == {"ok": 3, "forged or altered": 0, "secret not at hand": 0, "withheld": 0}
    assert ran.json()["findings"] == []
    assert verdicts(nexus_auth, *ids[:2]) == dict.fromkeys(ids[:2], "ok")
    assert "the signature is right" in nexus_auth("inbox", "verify", ids[0]).out


ALTERATIONS = {
    "one bit of the body": "body = set_byte(body, 60, get_byte(body, 60) # 1)",
    "a byte more": "body = body || '\\x20'",
    "no UTF-8": "body = set_byte(body, 60, 255)",
    "the id": "svix_id = svix_id || 'x'",
    "the timestamp": "svix_timestamp = (svix_timestamp::bigint + 1)::text",
    "no timestamp at all": "svix_timestamp = 'NaN'",
    "the signature": "signature = 'v1,' || translate(substr(signature, 4), 'abcdef012345', 'bcdefa123450')",
    "no signature": "signature = ''",
    "a signature of characters that are none": "signature = 'v1,é'",
}


@pytest.mark.parametrize("alteration", ALTERATIONS.values(), ids=ALTERATIONS.keys())
def test_one_altered_event_among_good_ones_is_found(
    database: Database, nexus_auth: CommandLine, alteration: str
) -> None:
    _, altered, _ = store(database, *(event("user.created", user(f"user_{n}")) for n in range(3)))
    change(database, f"update clerk_private.inbox set {alteration} where svix_id = '{altered}'")
    ran = nexus_auth("inbox", "verify", "--output", "json")
    assert ran.code == 1
    assert "1 of 3 events are not what was signed" in ran.err
    (finding,) = ran.json()["findings"]
    assert finding["verdict"] == "forged or altered"
    assert finding["svix_id"].startswith(altered)


def test_another_signature_beside_the_right_one_does_no_harm(database: Database, nexus_auth: CommandLine) -> None:
    (rotated,) = store(database, event("user.created", user("user_ada")))
    change(database, "update clerk_private.inbox set signature = 'v1a,x v1,' || repeat('A', 43) || '= ' || signature")
    assert verdicts(nexus_auth, rotated) == {rotated: "ok"}


def test_a_retired_secret_is_chosen_by_its_fingerprint(
    database: Database, nexus_auth: CommandLine, tmp_path: Path
) -> None:
    (old,) = store(database, event("user.created", user("user_ada")), secret=OTHER_SECRET)
    (new,) = store(database, event("user.created", user("user_eve")))
    assert verdicts(nexus_auth) == {old: "secret not at hand"}
    assert fingerprint(OTHER_SECRET) in nexus_auth("inbox", "verify").out
    assert verdicts(nexus_auth, old, new, CLERK_WEBHOOK_SIGNING_SECRET=f"{SECRET} {OTHER_SECRET}") == {
        old: "ok",
        new: "ok",
    }
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "both").write_text(f"{OTHER_SECRET}\n{SECRET}\n")
    (folder / "..data").write_text("no secret")
    kept = {"CLERK_WEBHOOK_SIGNING_SECRET": "", "NEXUS_AUTH_WEBHOOK_SECRETS_DIR": str(folder)}
    assert verdicts(nexus_auth, old, new, **kept) == {old: "ok", new: "ok"}


def test_what_is_withheld_is_told_apart(database: Database, nexus_auth: CommandLine) -> None:
    mail, plain = store(
        database,
        event("email.created", {"object": "email", "id": "ema_1", "body": "424242"}),
        event("user.created", user("user_ada")),
    )
    assert verdicts(nexus_auth, mail, plain) == {mail: "withheld", plain: "ok"}


def test_filters_choose_what_is_verified(database: Database, nexus_auth: CommandLine) -> None:
    store(database, event("user.created", user("user_ada")), event("session.created", {}))
    change(database, "update clerk_private.inbox set signature = 'v1,x' where type = 'session.created'")
    assert nexus_auth("inbox", "verify", "--type", "user.*").code == 0
    assert nexus_auth("inbox", "verify", "--type", "session.*").code == 1


@pytest.mark.parametrize(
    ("environment", "arguments", "said"),
    [
        ({"CLERK_WEBHOOK_SIGNING_SECRET": ""}, (), "no signing secret is at hand"),
        ({"CLERK_WEBHOOK_SIGNING_SECRET": "whsec_!"}, (), "a webhook signing secret cannot be read: secret 1 of 1"),
        ({"NEXUS_AUTH_WEBHOOK_SECRETS_DIR": "nowhere"}, (), "the folder of signing secrets cannot be read"),
        ({}, ("msg_1", "--type", "user.*"), "give svix-ids or filters, not both"),
    ],
)
def test_bad_input(nexus_auth: CommandLine, environment: dict[str, str], arguments: tuple[str, ...], said: str) -> None:
    ran = nexus_auth("inbox", "verify", *arguments, **environment)
    assert ran.code == 2
    assert said in ran.err


def test_more_than_a_page_is_verified(database: Database, nexus_auth: CommandLine) -> None:
    store(database, *(Signed(event("session.created", {"n": n})) for n in range(450)))
    assert nexus_auth("inbox", "verify", "--output", "json").json()["counts"]["ok"] == 450
