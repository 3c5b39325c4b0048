"""A release that runs: under which rules, what it does with events and with their loss."""

import itertools
import json

import pytest

from tests.e2e.release import NAME, Release
from tests.e2e.world import World

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


@pytest.mark.parametrize("kind", ["clerkinstance", "clerksync"])
async def test_kubectl_wait_sees_a_cause_come_and_go(release: Release, world: World, kind: str) -> None:
    async def wait(condition: str) -> None:
        await world.cluster.kubectl(
            "wait", f"{kind}/{NAME}", *world.where, f"--for=condition={condition}", "--timeout=60s"
        )

    await wait("Ready")
    try:
        await world.put_secret("clerk", secret__key="sk_test_of_nobody")
        await release.ask(
            f"with-a-wrong-key-{kind}"
        )  # the instance asks Clerk when a Secret changes, a sync when a run is due
        await wait("ConnectionReady=False")
        await wait("Ready=False")
        conditions = (await world.cluster.get(kind, NAME, namespace=world.namespace))["status"]["conditions"]
        assert {of["type"]: of["reason"] for of in conditions}["ConnectionReady"] == "UpstreamUnauthorized"
    finally:
        await world.put_secret("clerk", secret__key=world.clerk.secret_key)
    await wait("ConnectionReady")
    await wait("Ready")


async def test_events_through_the_service_become_rows(release: Release, world: World) -> None:
    world.clerk.add_endpoint(await release.url(), secret=world.signing[0])
    created = world.clerk.changes.users.create({"email_address": ["through@example.com"]})
    await world.clerk.idle()
    assert await world.live(created.id)


async def test_lost_events_are_repaired_by_the_operator_in_its_pod(release: Release, world: World) -> None:
    lost = await world.lost_user("lost")
    repaired = 0
    for attempt in itertools.count():  # a sweep leaves the last five seconds before it to the next one
        assert attempt < 30
        await release.sync(f"full@lost{attempt}")
        status = (await world.cluster.get("clerksync", NAME, namespace=world.namespace))["status"]
        repaired = next(entry["repaired"] for entry in status["resources"] if entry["name"] == "users")
        if await world.live(lost):
            break
    assert repaired >= 1


async def test_helm_test_passes(release: Release) -> None:
    said = (await release.test()).out
    assert said.count("ok  ") >= 4
    assert "FAILED" not in said
