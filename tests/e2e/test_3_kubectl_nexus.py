"""`kubectl nexus` beside pods that run: what it asks of the operator, of the database, of the kubelet."""

import base64
import json
import sys
import tarfile
from pathlib import Path

import pytest

from tests.e2e.cluster import Ran, run, until
from tests.e2e.release import NAME, Release
from tests.e2e.world import World

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def nexus(world: World, *arguments: str) -> Ran:
    """Runs it as kubectl would."""
    program = str(Path(sys.executable).with_name("kubectl-nexus"))
    # `plan` sends the API key from here, and only to hosts that whoever runs it allows
    return await run(
        "env", f"NEXUS_AUTH_API_HOSTS={world.clerk.api_url}", program, *arguments, *world.where, check=False
    )


async def test_status_tells_of_the_sync(release: Release, world: World) -> None:
    said = await nexus(world, "status")
    assert said.code == 0, said.out + said.err
    assert f"{world.namespace}/{NAME}" in said.out
    assert "memberships" in said.out
    listed = await world.cluster.kubectl("get", "clerk", *world.where)
    assert f"clerksync.nexus-auth.dev/{NAME}" in listed.out


async def test_a_loss_is_planned_repaired_and_explained(release: Release, world: World) -> None:
    assert (await nexus(world, "plan", NAME)).code == 0
    lost = await world.lost_user("planned")

    async def planned() -> bool:  # a sweep leaves the last five seconds before it to the next one
        said = await nexus(world, "plan", NAME, "--output", "json")
        return said.code == 1 and json.loads(said.out)["kinds"]["user"]["insert"] == 1

    await until(planned, seconds=60, what="the plan that inserts the user")
    assert not await world.live(lost)
    said = await nexus(world, "sync", NAME, "--full", "--wait", "--timeout", "60")
    assert said.code == 0, said.out + said.err
    assert "(full) completed" in said.out
    assert await world.live(lost)
    found = await nexus(world, "findings", NAME, "--output", "json")
    assert found.code == 0, found.out + found.err
    assert [(of["id"], of["action"], of["cause"]) for of in json.loads(found.out)] == [
        (lost, "repaired", "never received")
    ]
    assert (await nexus(world, "plan", NAME)).code == 0


@pytest.mark.parametrize("component", ["operator", "webhook"])
async def test_logs_show_lines_of_every_pod(release: Release, world: World, component: str) -> None:
    said = await nexus(world, "logs", "--component", component)
    assert said.code == 0, said.err
    for pod in await release.pods(component):
        assert f"{pod['metadata']['name']} {{" in said.out


async def test_the_bundle_has_lines_of_every_pod_and_no_secret(release: Release, world: World, tmp_path: Path) -> None:
    file = tmp_path / "bundle.tar.gz"
    said = await nexus(world, "report", "--file", str(file))
    assert said.code == 0, said.err
    with tarfile.open(file) as archive:
        files = {of.name.partition("/")[2]: archive.extractfile(of).read().decode() for of in archive}  # type: ignore[union-attr]
    for component in ("operator", "webhook"):
        for pod in await release.pods(component):
            lines = files[f"logs/{world.namespace}_{pod['metadata']['name']}.log"].splitlines()
            assert any(json.loads(line) for line in lines if line.startswith("{"))
    assert files["missing.txt"] == "nothing\n"
    everything = "\n".join(files.values())
    assert NAME in everything
    held = await world.cluster.get("secrets", namespace=world.namespace, selector="!owner")
    values = {base64.b64decode(value).decode() for item in held for value in item["data"].values()}
    assert len(values) >= 6
    for value in values | {world.clerk.secret_key, *world.passwords()}:
        assert value not in everything
        assert base64.b64encode(value.encode()).decode() not in everything
