"""One-time codes, links and backup codes give access to whoever reads them: none is stored, logged or counted."""

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

from devtools.postgres import Database, fetch
from nexus_auth.clerk.privacy import WITHHELD
from tests.events import T0, Signed, event, membership, user
from tests.service import WITHHOLD_KEY, WebhookService

PLANT = "planted7F3a"
"""In every secret; what an event may keep says "harmless"."""

CELLS = """
select c.oid::regclass::text as name, a.attname as part, a.atttypid = 'bytea'::regtype as bytes
from pg_class c join pg_namespace n on n.oid = c.relnamespace
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where c.relkind in ('r', 'm') and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_toast'
"""


def everything(database: Database) -> str:
    """Every cell of every table of every schema as text."""
    found = []
    for cell in fetch(database.admin_url, CELLS):
        part = '"' + cell["part"] + '"'
        text = f"encode({part}, 'escape')" if cell["bytes"] else f"{part}::text"
        query = f"select {text} from {cell['name']} where {part} is not null"
        found += [f"{cell['name']}.{cell['part']}: {row[0]}" for row in fetch(database.admin_url, query)]
    return "\n".join(found)


def email(**members: Any) -> dict[str, Any]:
    return {
        "object": "email",
        "id": "ema_harmless0123456789",
        "slug": "verification_code",
        "status": "queued",
        "user_id": "user_harmless0123456789",
        "from_email_name": PLANT,
        "to_email_address": f"{PLANT}@example.com",
        "subject": f"{PLANT} is your code",
        "body": f"<p>{PLANT}</p>",
        "body_plain": PLANT,
        "data": {"otp_code": PLANT, "app": {"url": PLANT}, "magic_link": PLANT},
        "delivered_by_clerk": True,
        "created_at": T0,
    } | members


def with_codes(user_id: str, **members: Any) -> dict[str, Any]:
    """A user with the backup codes of a telephone."""
    phone = {"id": "idn_phone0123456789", "phone_number": "+15550100", "backup_codes": [PLANT, PLANT + "2"]}
    return user(user_id, primary_phone_number_id=phone["id"], phone_numbers=[phone], **members)


def link(kind: str, **members: Any) -> dict[str, Any]:
    return {"object": kind, "id": f"{kind}_harmless0123456789", "url": f"https://x/{PLANT}", "updated_at": T0} | members


def deep(levels: int, innermost: Any) -> Any:
    for level in range(levels):
        innermost = [innermost] if level % 2 else {"a": innermost}
    return innermost


def escaped(body: bytes, name: str) -> bytes:
    """The same document with one character of a member's name written as an escape."""
    written = "".join(f"\\u{ord(letter):04x}" if at == len(name) // 2 else letter for at, letter in enumerate(name))
    assert json.loads(body.replace(name.encode(), written.encode())) == json.loads(body)
    return body.replace(name.encode(), written.encode())


SECRETIVE: dict[str, bytes] = {
    "e-mail": event("email.created", email()),
    "text message": event("sms.created", email(object="sms", message=PLANT, phone_number=PLANT)),
    "unknown mail event": event("email.resent", email()),
    "mail with text as data": event("email.created", PLANT),
    "mail with a list as data": event("sms.created", [PLANT]),
    "mail with more beside its data": event("email.created", email(), preview=PLANT),
    "organization invitation": event("organizationInvitation.created", link("organization_invitation")),
    "accepted organization invitation": event("organizationInvitation.accepted", {"a": link("x")} | link("orginv")),
    "invitation": event("invitation.created", link("invitation")),
    "waiting list": event("waitlistEntry.updated", link("waitlist_entry") | {"invitation": link("invitation")}),
    "session with its user": event(
        "session.created", {"id": "sess_1", "object": "session", "user": with_codes("user_1")}
    ),
    "user": event("user.created", with_codes("user_plain")),
    "user, close-packed": json.dumps(
        json.loads(event("user.created", with_codes("user_close"))), separators=(",", ":")
    ).encode(),
    "user with escapes elsewhere": event("user.created", with_codes("user_suspect", first_name="\x00")),
    "user, escaped name": escaped(event("user.created", with_codes("user_escaped")), "backup_codes"),
    "member": event(
        "organizationMembership.created",
        membership("orgmem_1", organization_id="org_1", user_id="user_1")
        | {"invitation_accepted": {"ticket": PLANT, "verification_url": PLANT}},
    ),
    "deletion": event("user.deleted", {"object": "user", "id": "user_gone", "deleted": True, "otp": PLANT}),
    "unknown type": event("galaxy.created", {"id": "galaxy_1", "codes": {"otp_code": PLANT}, "totp_secret": PLANT}),
    "unknown type, escaped name": escaped(event("galaxy.created", {"totp_secret": PLANT}), "totp_secret"),
    "escaped code": escaped(event("galaxy.created", {"otp_code": PLANT}), "otp_code"),
    "escaped type": event("email.created", email()).replace(b'"email.created"', b'"\\u0065mail.created"'),
    "escaped link": escaped(event("invitation.created", {"id": "inv_1", "url": PLANT}), "url"),
    "deep": event("galaxy.created", deep(100, {"backup_codes": [PLANT]})),
    "deeper than is kept": event("galaxy.created", deep(400, {"backup_codes": [PLANT]})),
    "mail deeper than is kept": event("email.created", deep(400, PLANT)),
    "in private metadata": event("user.updated", user("user_meta", private_metadata={"backup_codes": [PLANT]})),
    "not a text": event("galaxy.created", {"otp_code": {"value": PLANT}, "backup_codes": {PLANT: True}}),
    "hidden by a null of the same name": event("galaxy.created", {"id": "galaxy_2"}).replace(
        b'"data": {', b'"data": {"backup_codes": ["' + PLANT.encode() + b'"], "backup_codes": null, '
    ),
    "beside the data": event("galaxy.created", {"id": "galaxy_3"}, ticket=PLANT),
    "unfit user": event("user.created", with_codes("") | {"updated_at": None}),
    "poison": event("user.created", with_codes("user_poison") | {"banned": "maybe"}),
    "cut off mail": event("email.created", email())[:-30],
    "cut off text message": event("sms.created", email())[:-30],
    "cut off mail, escaped type": event("email.created", email()).replace(b"email.c", b"\\u0065mail\\u002Ec")[:-30],
    "cut off invitation": event("invitation.created", link("invitation"))[:-30],
    "cut off user": event("user.created", with_codes("user_cut"))[:-30],
    "cut off user, escaped name": escaped(event("user.created", with_codes("user_cut")), "backup_codes")[:-30],
    "codes without a type": json.dumps({"data": {"backup_codes": [PLANT]}}).encode(),
    "mail in a list": json.dumps(["email.created", {"body": PLANT}]).encode(),
    "nothing but a mail's type": b'"email.created ' + PLANT.encode() + b'"',
}


WITHOUT_MARK = {"deeper than is kept", "hidden by a null of the same name"}
"""There the secret falls away with something else."""


async def test_planted_secrets_are_found_nowhere(database: Database, tmp_path: Path) -> None:
    sent = {case: Signed(body) for case, body in SECRETIVE.items()}
    async with WebhookService(database, folder=tmp_path, NEXUS_AUTH_LOG_LEVEL="DEBUG") as service:
        for case, signed in sent.items():
            assert PLANT.encode() in signed.body, case
            assert await service.post(signed) == (204, ""), case
        metrics = (await service.health("/metrics"))[1]
    stored = {row["svix_id"]: row for row in fetch(database.admin_url, "select * from clerk_private.inbox")}
    for case, signed in sent.items():
        row = stored[signed.svix_id]
        assert PLANT.encode() not in row["body"], case
        assert (WITHHELD.encode() in row["body"]) == (case not in WITHOUT_MARK), case
        assert row["body_hmac"] == hmac.digest(WITHHOLD_KEY.encode(), signed.body, "sha256"), case
    dump = everything(database)
    assert "user_plain" in dump  # the search sees what is there
    assert [line for line in dump.splitlines() if PLANT in line] == []
    assert PLANT not in service.log.read_text()
    assert PLANT not in metrics


async def test_a_withheld_body_leaves_no_plain_hash(database: Database, tmp_path: Path) -> None:
    signed = Signed(event("email.created", {"object": "email", "id": "ema_1", "body": "123456"}))
    async with WebhookService(database, folder=tmp_path) as service:
        assert await service.post(signed) == (204, "")
    dump = everything(database)
    for name in ("md5", "sha1", "sha256", "sha512"):
        digest = hashlib.new(name, signed.body)
        assert digest.hexdigest() not in dump
        assert fetch(database.admin_url, "select from clerk_private.inbox where body_hmac = $1", digest.digest()) == []
    assert WITHHOLD_KEY not in dump


async def test_what_is_left_of_an_event_is_still_the_event(database: Database, tmp_path: Path) -> None:
    async with WebhookService(database, folder=tmp_path) as service:
        sent = {name: Signed(SECRETIVE[name]) for name in ("e-mail", "user", "invitation", "unknown type")}
        for signed in sent.values():
            assert await service.post(signed) == (204, "")
    rows = {row["svix_id"]: row for row in fetch(database.admin_url, "select * from clerk_private.inbox")}
    read = {name: json.loads(rows[signed.svix_id]["body"]) for name, signed in sent.items()}
    assert read["e-mail"]["type"] == "email.created"
    kept = {key: value for key, value in read["e-mail"]["data"].items() if value != WITHHELD}
    assert kept == {
        "object": "email",
        "id": "ema_harmless0123456789",
        "slug": "verification_code",
        "status": "queued",
        "user_id": "user_harmless0123456789",
        "created_at": T0,
    }
    assert rows[sent["e-mail"].svix_id]["subjects"] == ["ema_harmless0123456789", "user_harmless0123456789"]
    original = json.loads(SECRETIVE["user"])
    original["data"]["phone_numbers"][0]["backup_codes"] = WITHHELD
    assert read["user"] == original
    assert read["invitation"]["data"]["url"] == WITHHELD
    raw = fetch(database.admin_url, "select raw from clerk_private.objects where id = 'user_plain'")[0][0]
    assert json.loads(raw) == original["data"]
    phone = fetch(database.admin_url, "select primary_phone from clerk.users where id = 'user_plain'")[0][0]
    assert phone == "+15550100"


async def test_address_and_browser_of_a_person_are_dropped_unless_configured(
    database: Database, tmp_path: Path
) -> None:
    attributes = {"http_request": {"client_ip": "192.0.2.44", "user_agent": "Planted/1.0"}}
    query = "select body, body_hmac from clerk_private.inbox where svix_id = $1"
    bodies = {
        "plain": event("user.created", user("user_1"), event_attributes=attributes),
        "waiting": event("session.created", {"id": "sess_1"}, event_attributes=attributes),
        "suspect": event("user.created", user("user_2", first_name="\x00"), event_attributes=attributes),
        "message": event("email.created", {"id": "ema_1"}, event_attributes=attributes),
        "escaped": escaped(event("user.created", user("user_3"), event_attributes=attributes), "event_attributes"),
    }
    async with WebhookService(database, folder=tmp_path) as service:
        for case, body in bodies.items():
            signed = Signed(body)
            assert await service.post(signed) == (204, "")
            stored, mac = fetch(database.admin_url, query, signed.svix_id)[0]
            assert json.loads(stored)["event_attributes"] == WITHHELD, case
            assert mac == hmac.digest(WITHHOLD_KEY.encode(), body, "sha256"), case
        assert not {"192.0.2.44", "Planted/1.0"} & set(everything(database).split('"'))
    assert "192.0.2.44" not in service.log.read_text()
    async with WebhookService(database, folder=tmp_path, NEXUS_AUTH_KEEP_EVENT_ATTRIBUTES="1") as service:
        for case in ("plain", "waiting", "suspect"):
            signed = Signed(bodies[case])
            assert await service.post(signed) == (204, "")
            assert tuple(fetch(database.admin_url, query, signed.svix_id)[0]) == (signed.body, None), case


async def test_where_a_session_was_used_is_dropped_unless_configured(database: Database, tmp_path: Path) -> None:
    activity = {
        "object": "session_activity",
        "id": "sess_activity_0123456789A",
        "is_mobile": True,
        **dict.fromkeys(("device_type", "browser_name", "browser_version", "ip_address", "city", "country"), PLANT),
    }
    bodies = {
        "session": event("session.created", {"id": "sess_1", "object": "session", "latest_activity": activity}),
        "user": event("user.created", user("user_1", sessions=[{"latest_activity": activity}])),
        "suspect": event("user.created", user("user_2", first_name="\x00", sessions=[{"latest_activity": activity}])),
        "unknown": event("galaxy.created", {"id": "galaxy_1", "ip_address": PLANT, "client": {"user_agent": PLANT}}),
        "cut off": event("session.created", {"latest_activity": activity})[:-30],
    }
    query = "select body from clerk_private.inbox where svix_id = $1"
    async with WebhookService(database, folder=tmp_path) as service:
        for case, body in bodies.items():
            signed = Signed(body)
            assert PLANT.encode() in body, case
            assert await service.post(signed) == (204, ""), case
        dump = everything(database)
        assert "sess_activity_0123456789A" in dump
        assert [line for line in dump.splitlines() if PLANT in line] == []
    async with WebhookService(database, folder=tmp_path, NEXUS_AUTH_KEEP_EVENT_ATTRIBUTES="1") as service:
        for case, body in bodies.items():
            signed = Signed(body)
            assert await service.post(signed) == (204, ""), case
            assert fetch(database.admin_url, query, signed.svix_id)[0][0] == body, case


async def test_metadata_of_the_customer_is_not_touched(database: Database, tmp_path: Path) -> None:
    metadata = {"url": "https://example.com", "code": "red", "subject": {"body": "x"}, "links": [{"url": "y"}]}
    ada = user("user_ada", public_metadata=metadata, private_metadata=metadata, unsafe_metadata=metadata)
    signed = Signed(event("user.created", ada))
    invited = Signed(event("organizationInvitation.created", link("orginv", public_metadata=metadata)))
    async with WebhookService(database, folder=tmp_path) as service:
        for each in (signed, invited):
            assert await service.post(each) == (204, "")
    query = "select u.public_metadata, o.raw from clerk.users u join clerk_private.objects o using (id)"
    public, raw = fetch(database.admin_url, query)[0]
    assert json.loads(public) == metadata
    assert json.loads(raw) == ada
    bodies = dict(fetch(database.admin_url, "select svix_id, body from clerk_private.inbox"))
    assert bodies[signed.svix_id] == signed.body
    assert json.loads(bodies[invited.svix_id])["data"]["public_metadata"] == metadata
