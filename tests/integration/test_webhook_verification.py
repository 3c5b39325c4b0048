"""Who is let in: signatures, headers, clocks and secrets; and that strangers learn nothing from the answer."""

import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from devtools.postgres import Database
from devtools.postgres.databases import fetch
from nexus_auth.clerk.signature import fingerprint
from tests.events import OTHER_SECRET, SECRET, Signed, event, user
from tests.service import WebhookService
from tests.wire import Wire, until

THIRD_SECRET = "whsec_dGhpcmQtc2VjcmV0LXRoaXJkLXNlY3JldC10aGlyZC1zZWM="
REFUSED = (400, "the request could not be verified\n")
REJECTED = "nexus_auth_webhook_rejected_total"


def written(database: Database) -> int:
    return int(fetch(database.admin_url, "select count(*) from clerk_private.inbox_seen")[0][0])


def malformed(good: Mapping[str, str]) -> dict[str, list[tuple[str, str]]]:
    """Headers by what is wrong with them; `good` is right."""
    signature = good["svix-signature"]

    def instead(name: str, *values: str) -> list[tuple[str, str]]:
        return [(key, value) for key, value in good.items() if key != name] + [(name, value) for value in values]

    cases = {
        "no headers": [],
        "no comma": instead("svix-signature", signature.replace(",", "")),
        "two commas": instead("svix-signature", signature + ",x"),
        "only commas": instead("svix-signature", ",,,"),
        "empty signature": instead("svix-signature", ""),
        "bad base64": instead("svix-signature", "v1,@@@"),
        "no padding": instead("svix-signature", signature.rstrip("=")),
        "junk that base64 skips": instead("svix-signature", signature[:10] + "!" + signature[10:]),
        "version of a key pair": instead("svix-signature", signature.replace("v1,", "v1a,")),
        "version in capitals": instead("svix-signature", signature.replace("v1,", "V1,")),
        "non-ASCII signature": instead("svix-signature", signature + " v1,ü"),
        "non-ASCII id": instead("svix-id", good["svix-id"] + "ü"),
        "non-ASCII digits": instead("svix-timestamp", "".join(chr(0x660 + int(d)) for d in good["svix-timestamp"])),
        "endless id": instead("svix-id", "m" * 5_000),
        "endless signature": instead("svix-signature", "v1,A " * 1_500),
    }
    for name in ("svix-id", "svix-timestamp", "svix-signature"):
        cases |= {
            f"no {name}": instead(name),
            f"{name} twice": instead(name, good[name], good[name]),
            f"{name} and another": instead(name, good[name], "x"),
            f"{name} of others": instead(name, "x"),
        }
    for text in ("-1", "0", "nan", "inf", "1e9", "1_0", "1e400", "9" * 400, "0x10", "yesterday", "99999999999999"):
        cases[f"timestamp {text}"] = instead("svix-timestamp", text)
    for spelling in ("{}.0", "{}.5", "+{}", "0{}", "{}e0", "{}_0"):
        cases[f"timestamp as {spelling}"] = instead("svix-timestamp", spelling.format(good["svix-timestamp"]))
    return cases


async def test_whatever_is_wrong_the_answer_is_the_same_line_and_nothing_is_written(
    database: Database, tmp_path: Path
) -> None:
    signed = Signed(event("user.created", user("user_eve")))
    answers = {}
    async with WebhookService(database, folder=tmp_path) as service:
        for case, headers in malformed(signed.headers()).items():
            async with Wire(service.url) as wire:
                answers[case] = await wire.exchange(signed.body, headers)
        forged = signed.headers(secret=OTHER_SECRET)
        bodies: dict[str, tuple[bytes, Mapping[str, str]]] = {
            "forged": (signed.body, forged),
            "another body": (signed.body + b" ", signed.headers()),
            "not UTF-8": (signed.body[:-1] + b"\xff}", signed.headers()),
            "half a character": (b"\xed\xa0\x80", signed.headers()),
            "no body": (b"", signed.headers()),
            "stale": (signed.body, signed.headers(at=datetime.now(UTC) - timedelta(hours=1))),
        }
        for case, (body, wrong) in bodies.items():
            async with Wire(service.url) as wire:
                answers[case] = await wire.exchange(body, wrong)
        for case, answer in answers.items():
            assert (answer.status, answer.text) == REFUSED, case
            assert set(answer.headers) == {"content-type", "content-length", "date"}, case
        assert written(database) == 0
        for reason, at_least in {"signature": 4, "malformed_header": 20, "missing_header": 4, "encoding": 2}.items():
            assert await service.metric(f'{REJECTED}{{reason="{reason}"}}') >= at_least, reason
        total = sum(
            float(line.split()[-1])
            for line in (await service.health("/metrics"))[1].splitlines()
            if line.startswith(REJECTED)
        )
        assert total == len(answers)
        assert await service.metric("nexus_auth_webhook_clock_skew_total") == 0  # one id: a message that was sent again
        assert await service.post(signed) == (204, "")


async def test_several_genuine_events_that_are_stale_say_that_a_clock_is_off_and_one_sent_again_does_not(
    database: Database, tmp_path: Path
) -> None:
    signed = Signed(event("user.created", user("user_ada")))
    later = [Signed(event("user.created", user(f"user_{number}"))) for number in range(2)]
    now = datetime.now(UTC)
    skew, seconds = "nexus_auth_webhook_clock_skew_total", "nexus_auth_webhook_clock_skew_seconds"
    async with WebhookService(database, folder=tmp_path) as service:
        for minutes in (-60, 60):
            forged = signed.headers(secret=OTHER_SECRET, at=now + timedelta(minutes=minutes))
            assert await service.send(signed.body, forged) == REFUSED
        assert await service.metric(skew) == await service.metric(seconds) == 0
        assert await service.metric(f'{REJECTED}{{reason="stale"}}') == 2
        for family in ("svix-", "webhook-"):
            for _ in range(3):
                assert await service.post(signed, at=now - timedelta(minutes=60), family=family) == REFUSED
        assert await service.metric(skew) == 0
        assert await service.post(later[0], at=now - timedelta(minutes=60)) == REFUSED
        assert await service.metric(skew) == 0
        assert await service.post(later[1], at=now - timedelta(minutes=60)) == REFUSED
        assert await service.metric(skew) == 1
        for count, minutes in enumerate((60, -6, 6), start=2):
            assert await service.post(signed, at=now + timedelta(minutes=minutes)) == REFUSED
            assert await service.metric(skew) == count
            assert abs(await service.metric(seconds) + minutes * 60) < 60
        assert written(database) == 0
        await service.logged(
            "genuine events are stale by this machine's clock: set the clock, or Svix will disable this endpoint"
        )
        for minutes in (-4, 4):
            assert await service.post(signed, at=now + timedelta(minutes=minutes)) == (204, "")
        for old in later:  # the clock is right: a fresh event was here
            assert await service.post(old, at=now - timedelta(minutes=60)) == REFUSED
        assert await service.metric(skew) == 4


async def test_both_families_of_headers_are_read_and_one_good_one_is_enough(database: Database, tmp_path: Path) -> None:
    async with WebhookService(database, folder=tmp_path) as service:
        for number, families in enumerate((("svix-",), ("webhook-",), ("svix-", "webhook-"))):
            signed = Signed(event("user.created", user(f"user_{number}")))
            headers = {key: value for family in families for key, value in signed.headers(family=family).items()}
            assert await service.send(signed.body, headers) == (204, "")
        signed = Signed(event("user.created", user("user_9")))
        wrong = {"svix-id": "msg_x", "svix-timestamp": "1", "svix-signature": "v1,x"}
        assert await service.send(signed.body, wrong | signed.headers(family="webhook-")) == (204, "")
        half = {"svix-id": "msg_x"} | signed.headers(family="webhook-")
        assert await service.send(signed.body, half) == (204, "")
        mixed = signed.headers() | {"svix-signature": ""}
        mixed["webhook-signature"] = signed.headers()["svix-signature"]
        assert await service.send(signed.body, mixed) == REFUSED
        assert written(database) == 4


async def test_several_secrets_are_accepted_and_a_metric_says_which_one_was_used(
    database: Database, tmp_path: Path
) -> None:
    async with WebhookService(
        database, folder=tmp_path, CLERK_WEBHOOK_SIGNING_SECRET=f"{SECRET} {OTHER_SECRET}\n"
    ) as service:
        signed = Signed(event("user.created", user("user_ada")))
        for secret in (OTHER_SECRET, SECRET, OTHER_SECRET):
            assert await service.post(signed, secret=secret) == (204, "")
        assert await service.post(signed, secret=THIRD_SECRET) == REFUSED
        both = signed.headers()
        both["svix-signature"] = f"{signed.headers(secret=THIRD_SECRET)['svix-signature']} {both['svix-signature']}"
        assert await service.send(signed.body, both) == (204, "")
        verified = "nexus_auth_webhook_verified_total"
        for secret, times in ((SECRET, 2), (OTHER_SECRET, 2), (THIRD_SECRET, 0)):
            assert await service.metric(f'{verified}{{secret="{fingerprint(secret)}"}}') == times
            loaded = await service.metric(f'nexus_auth_webhook_secret_loaded{{secret="{fingerprint(secret)}"}}')
            assert loaded == (times > 0)
        assert [tuple(row) for row in fetch(database.admin_url, "select secret from clerk_private.inbox")] == [
            (fingerprint(OTHER_SECRET),)
        ]
        metrics = (await service.health("/metrics"))[1]
    for secret in (SECRET, OTHER_SECRET):
        assert secret.removeprefix("whsec_") not in metrics + service.log.read_text()


async def test_a_folder_of_secrets_is_read_again_while_it_runs_and_the_last_good_set_stays(
    database: Database, tmp_path: Path
) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "first").write_text(SECRET + "\n")
    (folder / "..data").write_text("not a secret")
    signed = Signed(event("user.created", user("user_ada")))
    changed = "signing secrets changed"
    kept = "signing secrets not taken over, the former stay"
    async with WebhookService(
        database, folder=tmp_path, CLERK_WEBHOOK_SIGNING_SECRET=None, NEXUS_AUTH_WEBHOOK_SECRETS_DIR=str(folder)
    ) as service:

        async def after(message: str, offset: int) -> None:
            await service.logged(message, after=offset)

        async def accepted() -> list[bool]:
            tried = [await service.post(signed, secret=secret) for secret in (SECRET, OTHER_SECRET, THIRD_SECRET)]
            return [answer == (204, "") for answer in tried]

        assert await accepted() == [True, False, False]

        offset = service.log.stat().st_size
        (folder / "second").write_text(f"{OTHER_SECRET} {THIRD_SECRET}")
        await after(changed, offset)
        assert await accepted() == [True, True, True]

        offset = service.log.stat().st_size
        (folder / "first").unlink()
        await after(changed, offset)
        assert await accepted() == [False, True, True]
        assert await service.metric(f'nexus_auth_webhook_secret_loaded{{secret="{fingerprint(SECRET)}"}}') == 0

        for spoilt in (b"", b"whsec_@@@", b"\xff\xfe", OTHER_SECRET.encode() + b" sk_live_nonsense!"):
            offset = service.log.stat().st_size
            (folder / "second").write_bytes(spoilt)
            await after(kept, offset)
            assert await accepted() == [False, True, True]

        offset = service.log.stat().st_size
        (folder / "second").unlink()
        await after(kept, offset)
        folder.rename(tmp_path / "away")
        offset = service.log.stat().st_size
        await after(kept, offset)
        assert await accepted() == [False, True, True]

        offset = service.log.stat().st_size
        (tmp_path / "away" / "second").write_text(SECRET)
        (tmp_path / "away").rename(folder)
        await after(changed, offset)
        assert await accepted() == [True, False, False]
    assert "nonsense" not in service.log.read_text()


async def test_secrets_that_are_swapped_by_a_link_as_in_kubernetes_are_taken_over(
    database: Database, tmp_path: Path
) -> None:
    folder = tmp_path / "secrets"
    for name, secret in (("..one", SECRET), ("..two", OTHER_SECRET)):
        (folder / name).mkdir(parents=True)
        (folder / name / "key").write_text(secret)
        os.utime(folder / name / "key", (1, 1))
    (folder / "..data").symlink_to("..one")
    (folder / "key").symlink_to("..data/key")
    signed = Signed(event("user.created", user("user_ada")))
    async with WebhookService(
        database, folder=tmp_path, CLERK_WEBHOOK_SIGNING_SECRET=None, NEXUS_AUTH_WEBHOOK_SECRETS_DIR=str(folder)
    ) as service:
        assert await service.post(signed) == (204, "")
        (folder / "..next").symlink_to("..two")
        (folder / "..next").rename(folder / "..data")

        async def taken_over() -> bool:
            return await service.post(signed, secret=OTHER_SECRET) == (204, "")

        started = time.monotonic()
        await until(taken_over)
        assert time.monotonic() - started < 10
        assert await service.post(signed) == REFUSED
