"""Who leads: one of two, the other when it dies, nobody else's writing when it was frozen."""

from pathlib import Path
from typing import Any

import yaml

from tests.kubernetes.operator.conftest import NAME, Stage
from tests.kubernetes.operator.kube import SYNCS, client_of
from tests.kubernetes.operator.process import Operator, own_token, write_kubeconfig
from tests.process import until

LEASE = "nexus-auth-operator"


async def test_the_leader_is_killed_and_the_other_leads_without_a_second_sweep(stage: Stage) -> None:
    async with stage.operator(name="first") as first:
        await first.leads()
        async with stage.operator(name="second") as second:
            await stage.all()
            await stage.ready()
            await second.said('"listening"')
            assert (await second.ready())[0] == 200
            assert (await second.metrics())["nexus_auth_leader"] == 0
            assert (await first.metrics())["nexus_auth_leader"] == 1
            before = await stage.sweeps()
            await first.kill()
            await second.leads()
            await stage.requested("to the second")
            modes = [mode for _, mode in await stage.sweeps()]
            assert modes.count("full") == 1
            assert len(modes) == len(before) + 1
            lease = await stage.kube.get("leases", LEASE)
            assert lease["spec"]["leaseTransitions"] == 1


async def test_a_leader_that_ends_gives_the_lease_up_at_once(stage: Stage) -> None:
    async with stage.operator(name="first", NEXUS_AUTH_LEASE_SECONDS="60") as first:
        await first.leads()
        async with stage.operator(name="second", NEXUS_AUTH_LEASE_SECONDS="60") as second:
            await second.said('"listening"')
            assert await first.stop() < 5.0
            await second.leads()
            lease = await stage.kube.get("leases", LEASE)
            assert f"_{second.process.pid}_" in lease["spec"]["holderIdentity"]


async def test_a_leader_that_was_frozen_past_its_lease_writes_nothing(stage: Stage) -> None:
    """Frozen in the midst of a run that another takes over: the epoch of the run's row is what stops it."""
    stops = stage.stops_at("sweep.repaired")
    await stage.all()
    async with stage.operator(name="first", NEXUS_AUTH_FAILPOINTS_DIR=stops) as first:
        await first.reached("sweep.repaired")
        first.freeze()
        stage.goes_on("sweep.repaired")
        async with stage.operator(name="second") as second:
            await second.leads()
            await stage.ready()
            full = [run for run in await stage.runs() if run[1] == "full"]
            assert [(state, epoch) for _, _, state, epoch in full] == [
                ("completed", 2),
                ("completed", 1),
                ("completed", 1),
            ]
            before = await stage.world.dump()
            first.thaw()
            await first.said("lease lost")
            await until(lambda: _leads_no_more(first), what=lambda: first.log.read_text())
            assert await stage.world.dump() == before
            holder = (await stage.kube.get("leases", LEASE))["spec"]["holderIdentity"]
            assert f"_{second.process.pid}_" in holder
    assert await stage.world.differs() == []


async def _leads_no_more(operator: Operator) -> bool:
    return (await operator.metrics())["nexus_auth_leader"] == 0


async def test_a_second_release_of_the_same_class_refuses_to_start(stage: Stage) -> None:
    async with stage.operator(name="first") as first:
        await first.leads()
        rival = stage.operator(name="second", NEXUS_AUTH_LEASE_NAME="another")
        async with rival as second:
            assert await second.ended() == 78
            assert "give this release another operator.controllerClass" in second.log.read_text()
        async with stage.operator(
            name="third", NEXUS_AUTH_LEASE_NAME="third", NEXUS_AUTH_CONTROLLER_CLASS="blue"
        ) as third:
            await third.leads()
            await stage.secrets()
            await stage.instance()
            await stage.sync(controllerClass="blue")
            await stage.ready()
            assert '"run"' not in first.log.read_text()
            assert '"run"' in third.log.read_text()


async def test_a_second_cluster_wide_release_is_found_in_another_namespace(stage: Stage, api_server: Any) -> None:
    admins = Path(api_server.kubeconfig)
    name = f"{stage.kube.namespace}-other"
    await stage.kube.call(
        "POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    )
    client = await client_of(admins)
    try:
        other = type(stage.kube)(client, namespace=name)
        kubeconfig = stage.folder / "everywhere"
        token = await own_token(other, watch=[])
        write_kubeconfig(kubeconfig, admins=admins, token=token)
        blue = {"NEXUS_AUTH_CONTROLLER_CLASS": name, "NEXUS_AUTH_WATCH_NAMESPACES": ""}
        async with stage.operator(name="first", NEXUS_AUTH_CONTROLLER_CLASS=name) as first:
            await first.leads()
            second = stage.operator(name="second", kubeconfig=kubeconfig, NEXUS_AUTH_LEASE_NAMESPACE=name, **blue)
            async with second:
                assert await second.ended() == 78
                assert f"Lease {stage.kube.namespace}/{LEASE}" in second.log.read_text()
            await first.stop()
            third = stage.operator(name="third", kubeconfig=kubeconfig, NEXUS_AUTH_LEASE_NAMESPACE=name, **blue)
            async with third:
                await third.leads()
                await stage.secrets()
                await stage.instance()
                await stage.sync(controllerClass=name)
                await stage.ready()
    finally:
        await client.close()  # type: ignore[no-untyped-call]
        for kind in ("clusterroles", "clusterrolebindings"):
            await _delete_ours(stage, kind, mark=name)


async def _delete_ours(stage: Stage, kind: str, *, mark: str) -> None:
    root = "/apis/rbac.authorization.k8s.io/v1/"
    for item in (await stage.kube.call("GET", root + kind))["items"]:
        if mark in yaml.safe_dump(item["metadata"]["name"]):
            await stage.kube.call("DELETE", f"{root}{kind}/{item['metadata']['name']}")


async def test_an_operator_that_starts_anew_repeats_nothing(stage: Stage) -> None:
    async with stage.operator(name="first") as first:
        await stage.all()
        await stage.ready()
        before = await stage.kube.get(SYNCS, NAME)
        await first.stop()
    sweeps = await stage.sweeps()
    async with stage.operator(name="second") as second:
        await second.leads()
        with stage.clerk.events.silence():
            stage.clerk.changes.users.create({"email_address": ["ada@example.com"]})
        body = await stage.requested("after")
        assert len(await stage.sweeps()) == len(sweeps) + 1
        history = body["status"]["history"]
        assert [of["id"] for of in history] == [3, 2, 1]
        assert history[1:] == before["status"]["history"]
