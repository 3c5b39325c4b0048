"""Secrets that change while events arrive: every webhook pod takes them up, none is started again, nothing is lost.

The controls lose: with the database's password changed and the Secret not, no pod stores anything, and a sender that
does not deliver again has lost what it sent meanwhile.
"""

import asyncio
import json

import pytest

from tests.e2e.cluster import until
from tests.e2e.figures import Figures
from tests.e2e.load import Load, nothing_lost, under_load
from tests.e2e.release import Release
from tests.e2e.world import RECONCILER, WEBHOOK, World
from tests.events import Signed, event, user

pytestmark = pytest.mark.asyncio(loop_scope="session")

POST = """
import json, sys, urllib.error, urllib.request
given = json.load(sys.stdin)
url = "http://127.0.0.1:8080/webhooks/clerk"
request = urllib.request.Request(url, data=given["body"].encode(), headers=given["headers"])
try:
    print(urllib.request.urlopen(request, timeout=20).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""


async def answers(release: Release, *, secret: str) -> list[str]:
    """What each webhook pod says to an event that it has not seen, from inside it: behind a Service one may hide."""
    world = release.world

    async def one(pod: str) -> str:
        signed = Signed(event("user.created", user(f"user_in{pod[-5:]}"), instance_id=world.clerk.instance_id))
        given = {"body": signed.body.decode(), "headers": signed.headers(secret=secret)}
        return await release.exec(pod, "python", "-c", POST, stdin=json.dumps(given))

    return list(await asyncio.gather(*(one(pod["metadata"]["name"]) for pod in await release.pods("webhook"))))


async def until_all(release: Release, answer: str, *, secret: str) -> float:
    """Waits until every pod answers so; answers for how long. The kubelet would look about once a minute."""

    async def all_do() -> bool:
        await release.nudge("webhook")
        return await answers(release, secret=secret) == [answer, answer]

    return await until(all_do, seconds=50, what=f"{answer} from every pod")


async def change_password(world: World, service: str) -> str:
    """A new password in the database alone, and nobody left who came with the old one; answers the new URL."""
    login = f"clerk_{service}_login"
    await world.value(f"alter role {login} password 'rotated-{service}'")
    theirs = "select array_agg(pid) from pg_stat_activity where usename = $1"
    former = await world.value(theirs, login) or []
    await world.value("select count(pg_terminate_backend(pid)) from unnest($1::int[]) as pid", former)

    async def gone() -> bool:
        return bool(await world.value("select count(*) = 0 from pg_stat_activity where pid = any ($1::int[])", former))

    await until(gone, seconds=30, what="the end of connections with the old password")
    url = world.database.url(service)
    return world.seen_by_pods(url.replace(url.split(f"{login}:")[1].split("@")[0], f"rotated-{service}"))


async def test_rotated_secrets_are_taken_up_under_load_without_a_restart(
    release: Release, world: World, figures: Figures
) -> None:
    before = await release.incarnations("webhook"), await release.incarnations("operator")
    (old,) = world.signing
    fresh = "whsec_" + "q" * 32
    once = await release.load("once", again=False)
    load = await release.load("rotated")
    async with under_load(load), under_load(once):
        assert await answers(release, secret=fresh) == ["400", "400"]
        await world.put_secret("signing", secret0=old, secret1=fresh)
        figures.took("new signing secret to every pod", await until_all(release, "204", secret=fresh))
        url = await change_password(world, "webhook")
        assert await answers(release, secret=fresh) == ["503", "503"]
        await world.put_secret(WEBHOOK, url=url)
        figures.took("new password to every pod", await until_all(release, "204", secret=fresh))
    figures.met("rotated secrets", load, rows=await nothing_lost(load, world))
    figures.met("  delivered once only", once, rows=len(once.acknowledged))
    assert load.answers["503"] > 0
    assert once.lost
    world.signing = [fresh]
    await world.put_secret("signing", secret0=fresh)
    await until_all(release, "400", secret=old)
    assert await answers(release, secret=fresh) == ["204", "204"]
    await world.put_secret(RECONCILER, url=await change_password(world, "reconciler"))
    await release.sync("full@rotated")
    assert (await release.incarnations("webhook"), await release.incarnations("operator")) == before


async def test_a_load_that_says_it_lost_nothing_has_looked(release: Release, world: World) -> None:
    load = Load("", "", "", "", acknowledged={f"msg_never{number}" for number in range(60)})
    with pytest.raises(AssertionError):
        await nothing_lost(load, world)
