"""From apply to Ready, and from a lost event to its repair."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from tests.kubernetes.operator.conftest import NAME, Stage
from tests.kubernetes.operator.kube import INSTANCES, SYNCS, condition_of


async def test_what_is_applied_becomes_ready_and_the_mirror_holds_what_clerk_has(stage: Stage) -> None:
    async with stage.operator() as operator:
        await stage.all()
        ready = await stage.kube.condition(NAME, "Ready", "True", reason="InSync")
        assert ready["message"]
        await stage.kube.condition(NAME, "Ready", "True", plural=INSTANCES)
        body = await stage.kube.get(SYNCS, NAME)
        assert await stage.world.differs() == []
        assert "finalizers" not in body["metadata"]
        assert "annotations" not in body["metadata"]
        assert await operator.stop() < 5.0
    status = body["status"]
    assert {c["type"]: c["status"] for c in status["conditions"]} == {
        "Ready": "True",
        "ConnectionReady": "True",
        "DatabaseReady": "True",
        "DriftDetected": "False",
        "Suspended": "False",
    }
    assert status["observedGeneration"] == 1
    assert status["lastSync"]["state"] == "completed"
    assert [of["name"] for of in status["resources"]] == ["users", "organizations", "memberships"]
    assert status["resources"][0]["live"] == 20
    assert status["database"]["schemaVersion"] >= "20261125000008"
    instance = (await stage.kube.get(INSTANCES, NAME))["status"]
    assert instance["instanceId"] == stage.clerk.instance_id
    assert instance["budget"] == {"requestsPer10s": 1000, "shareRequestsPer10s": 1000}
    assert instance["syncs"] == 1
    assert condition_of({"status": instance}, "Stalled") is None


async def test_kubectl_waits_for_ready(stage: Stage, api_server: Any) -> None:
    async with stage.operator():
        await stage.all()
        await stage.ready()
        kubectl = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("kubectl")),
            *("--kubeconfig", str(api_server.kubeconfig), "-n", stage.kube.namespace),
            *("wait", "--for=condition=Ready", f"clerksync/{NAME}", "--timeout=20s"),
            env={"PATH": os.environ["PATH"], "HOME": str(stage.folder)},
        )
        assert await kubectl.wait() == 0


async def test_events_that_were_lost_are_repaired(stage: Stage) -> None:
    async with stage.operator():
        await stage.all()
        await stage.ready()
        with stage.clerk.events.silence():
            user = stage.clerk.changes.users.create({"email_address": ["ada@example.com"]})
        body = await stage.requested("first")
        assert body["status"]["lastSync"]["mode"] == "incremental"
        assert body["status"]["lastSync"]["reason"] == "Requested"
        assert user.id in await stage.world.ids()
        await stage.kube.condition(NAME, "DriftDetected", "False")
        gone = (await stage.world.ids())[3]  # one that is older than what a sweep leaves to settle
        with stage.clerk.events.silence():
            stage.clerk.changes.users.delete(gone)
        body = await stage.requested("full@second")
        (asked,) = [of for of in body["status"]["history"] if of["mode"] == "full" and of["reason"] == "Requested"]
        assert [of["resource"] for of in asked["runs"]] == ["users", "organizations", "memberships"]
        assert body["status"]["resources"][0]["extra"] == 1
        body = await stage.kube.until(
            SYNCS, NAME, lambda body: body["status"]["resources"][0]["tombstoned"] == 1, what="the second read"
        )
        assert gone in await stage.world.dead()


async def test_events_that_were_lost_are_reported_where_the_policy_says_so(stage: Stage) -> None:
    async with stage.operator():
        await stage.all(drift="Report")
        drifting = await stage.kube.condition(NAME, "DriftDetected", "True")
        assert "kubectl nexus findings" in drifting["message"]
        await stage.kube.condition(NAME, "Ready", "True", reason="SyncedWithDrift")
        body = await stage.kube.get(SYNCS, NAME)
        drift = body["status"]["drift"]
        assert drift["total"] == 35
        assert len(drift["items"]) == 20
        assert drift["items"][0]["problem"] == "missing"
        assert await stage.world.ids() == []
        assert await stage.kube.events(reason="DriftDetected")
        await stage.kube.patch(SYNCS, NAME, {"spec": {"drift": {"policy": "Fix"}}})
        await stage.requested("full@repair")
        await stage.kube.condition(NAME, "DriftDetected", "False")
        assert await stage.world.differs() == []
