"""A release that runs: under which rules, what it does with events, with their loss, with secrets that change."""

import asyncio
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.e2e.cluster import Cluster, run, until
from tests.e2e.release import NAME, Release
from tests.e2e.world import RECONCILER, WEBHOOK, World
from tests.events import Signed, event, user

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_everything_gets_ready_where_podsecurity_restricted_is_enforced(release: Release, world: World) -> None:
    assert len(await release.pods("webhook")) == 2
    assert len(await release.pods("operator")) == 2
    plain = ("run", "plain", "--image=anything", "--namespace", world.namespace)
    refused = await world.cluster.kubectl(*plain, check=False)
    assert "violates PodSecurity" in refused.err


@pytest.mark.parametrize("component", ["webhook", "operator"])
async def test_pods_run_as_a_numeric_user_without_a_writable_root(
    release: Release, world: World, component: str
) -> None:
    program = (
        "import json, os, pathlib\n"
        "said = dict(line.split(':', 1) for line in pathlib.Path('/proc/self/status').read_text().splitlines())\n"
        "try:\n    pathlib.Path('/app/written').touch(); writable = True\n"
        "except OSError:\n    writable = False\n"
        "pathlib.Path('/tmp/written').touch()\n"
        "token = pathlib.Path('/var/run/secrets/kubernetes.io/serviceaccount/token').exists()\n"
        "print(json.dumps([os.getuid(), said['NoNewPrivs'].strip(), said['Seccomp'].strip(), int(said['CapEff'], 16),"
        " writable, token]))\n"
    )
    name = (await release.pods(component))[0]["metadata"]["name"]
    ran = await world.cluster.kubectl("exec", name, "--namespace", world.namespace, "--", "python", "-c", program)
    assert json.loads(ran.out) == [10001, "1", "2", 0, False, component == "operator"]


async def test_the_image_has_no_compiler_no_cache_and_no_installer_beside_the_services(
    release: Release, world: World
) -> None:
    program = (
        "import pathlib, shutil\n"
        "print([name for name in ('gcc', 'cc', 'make', 'ld') if shutil.which(name)],"
        " pathlib.Path('/opt/venv/bin/pip').exists(), pathlib.Path('/opt/build').exists(),"
        " sorted(path.name for path in pathlib.Path('/app').iterdir() if path.suffix != '.egg-info'))\n"
    )
    name = (await release.pods("webhook"))[0]["metadata"]["name"]
    ran = await world.cluster.kubectl("exec", name, "--namespace", world.namespace, "--", "python", "-c", program)
    parts = ["LICENSE", "README.md", "crds", "nexus_auth", "pyproject.toml", "requirements", "services", "sql"]
    assert ran.out.strip() == f"[] False False {parts}"


async def test_kubectl_wait_works_on_both_kinds(release: Release, world: World) -> None:
    for kind in ("clerkinstance", "clerksync"):
        await world.cluster.kubectl(
            *("wait", f"{kind}/{NAME}", "--namespace", world.namespace, "--for=condition=Ready", "--timeout=60s")
        )


async def test_events_through_the_service_become_rows(release: Release, world: World) -> None:
    world.clerk.add_endpoint(await release.url(), secret=world.signing[0])
    created = world.clerk.changes.users.create({"email_address": ["through@example.com"]})
    await world.clerk.idle()
    assert await world.live(created.id)


async def test_lost_events_are_repaired_by_the_operator_in_its_pod(release: Release, world: World) -> None:
    for endpoint in list(world.clerk.dispatcher.endpoints):
        endpoint.enabled = False
    lost = world.clerk.changes.users.create({"email_address": ["lost@example.com"]})
    await world.clerk.idle()
    assert not await world.live(lost.id)
    repaired = 0
    for attempt in itertools.count():  # a sweep leaves the last five seconds before it to the next one
        assert attempt < 30
        await release.sync(f"full@lost{attempt}")
        status = (await world.cluster.get("clerksync", NAME, namespace=world.namespace))["status"]
        repaired = next(entry["repaired"] for entry in status["resources"] if entry["name"] == "users")
        if await world.live(lost.id):
            break
    assert repaired >= 1


async def post(release: Release, signed: Signed, *, secret: str) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.post(await release.url(), data=signed.body, headers=signed.headers(secret=secret)) as answer,
    ):
        return answer.status


async def test_rotated_secrets_are_taken_up_without_a_restart(release: Release, world: World) -> None:
    before = await release.incarnations("webhook"), await release.incarnations("operator")
    fresh = "whsec_" + "q" * 32
    signed = Signed(event("user.created", user("user_rotated"), instance_id=world.clerk.instance_id))
    assert await post(release, signed, secret=fresh) == 400
    await world.put_secret("signing", secret0=world.signing[0], secret1=fresh)
    await rotate_passwords(world)
    await release.nudge("webhook")

    async def accepted() -> bool:
        answers: list[Any] = await asyncio.gather(*(post(release, signed, secret=fresh) for _ in range(8)))
        return answers == [204] * 8

    await until(accepted, seconds=120, what="the new signing secret in every pod")
    await until(lambda: connections_renewed(world), seconds=120, what="the new password in every pod")
    assert await post(release, signed, secret=fresh) == 204
    await release.sync("full@rotated")
    assert (await release.incarnations("webhook"), await release.incarnations("operator")) == before


async def rotate_passwords(world: World) -> None:
    for service, secret in (("webhook", WEBHOOK), ("reconciler", RECONCILER)):
        url = world.database.url(service)
        login = f"clerk_{service}_login"
        old = url.split(f"{login}:")[1].split("@")[0]
        await world.value(f"alter role {login} password 'rotated-{service}'")
        await world.put_secret(secret, url=world.seen_by_pods(url.replace(old, f"rotated-{service}")))


async def connections_renewed(world: World) -> bool:
    """Cuts every connection of the webhook; whoever has the new password is back at once."""
    cut = "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'clerk_webhook_login'"
    await world.value(cut)
    await asyncio.sleep(0.5)
    back = "select count(distinct client_addr) from pg_stat_activity where usename = 'clerk_webhook_login'"
    return int(await world.value(back)) >= 1


async def test_the_leaders_pod_is_killed_and_another_leads_without_a_second_sweep(
    release: Release, world: World, cluster: Cluster
) -> None:
    lease = f"{NAME}-operator"
    held = await cluster.get("lease", lease, namespace=world.namespace)
    leader = held["spec"]["holderIdentity"].partition("_")[0]
    before = await world.value("select coalesce(max(id), 0) from clerk_private.runs")
    await release.ask("full@killed")
    await cluster.kubectl("delete", "pod", leader, "--namespace", world.namespace, "--grace-period=0", "--force")

    async def another_leads() -> bool:
        now = (await cluster.get("lease", lease, namespace=world.namespace))["spec"]
        holder = now.get("holderIdentity") or ""
        return bool(holder) and not holder.startswith(leader)

    await until(another_leads, seconds=60, what="another leader")
    await release.sync("full@killed")
    runs = await world.value("select count(*) from clerk_private.runs where mode = 'full' and id > $1", before)
    assert runs == 1
    overlapping = (
        "select count(*) from clerk_private.runs a join clerk_private.runs b on a.id < b.id and a.sync = b.sync"
        " and tstzrange(a.started_at, a.finished_at) && tstzrange(b.started_at, b.finished_at)"
    )
    assert await world.value(overlapping) == 0


async def test_helm_test_passes(release: Release) -> None:
    said = (await release.test()).out
    assert said.count("ok  ") >= 4
    assert "FAILED" not in said


async def test_kubectl_nexus_status_tells_of_the_sync(release: Release, world: World) -> None:
    program = str(Path(sys.executable).with_name("kubectl-nexus"))
    said = (await run(program, "status", "--namespace", world.namespace)).out  # ends with 1 where one is not Ready
    assert f"{world.namespace}/{NAME}" in said
    assert "memberships" in said
    listed = await world.cluster.kubectl("get", "clerk", "--namespace", world.namespace)
    assert f"clerksync.nexus-auth.dev/{NAME}" in listed.out
