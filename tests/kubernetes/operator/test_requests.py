"""What people ask for by annotations and by suspend, what Secrets bring, what metrics tell."""

from tests.kubernetes.operator.conftest import NAME, Stage
from tests.kubernetes.operator.kube import INSTANCES, SYNCS
from tests.kubernetes.operator.process import Operator
from tests.process import until


async def test_an_approval_lets_the_parked_deletions_happen(stage: Stage) -> None:
    async with stage.operator() as operator:
        await stage.all(deletionGuard={"floor": 1, "percent": 0})
        await stage.ready()
        gone = (await stage.world.ids())[2:5]
        with stage.clerk.events.silence():
            for user in gone:
                stage.clerk.changes.users.delete(user)
        await stage.requested("full@1")
        parked = await stage.kube.condition(NAME, "Ready", "False", reason="DeletionGuardTripped")
        run = (await stage.kube.get(SYNCS, NAME))["status"]["parkedRun"]
        assert f"nexus approve {run}" in parked["message"]
        await stage.kube.condition(NAME, "Stalled", "True", reason="DeletionGuardTripped")
        await stage.kube.condition(NAME, "DriftDetected", "True")
        assert (await operator.metrics())[f"nexus_auth_sync_parked{_labels(stage)}"] == 1
        assert await stage.world.dead() == set()
        await stage.kube.annotate(NAME, approve="4711", approved_by="eve")
        await until(lambda: stage.kube.events(reason="ApprovalRefused"), what=lambda: "a refusal")
        assert await stage.world.dead() == set()
        await stage.kube.annotate(NAME, approve=str(run), approved_by="grace")
        await stage.ready()
        assert set(gone) <= await stage.world.dead()
        body = await stage.kube.get(SYNCS, NAME)
        assert body["status"]["lastHandledApproval"] == str(run)
        assert "parkedRun" not in body["status"]
        await stage.kube.condition(NAME, "Stalled", None)
        await stage.kube.condition(NAME, "DriftDetected", "False")
        who = await stage.world.admin.fetchval("select approved_by from clerk_private.runs where id = $1", run)
        assert who == "grace"
        (told,) = await stage.kube.events(reason="Approved")
        assert told["message"] == f"the deletions of run {run} were approved by grace"

        async def deletions() -> bool:
            said = [event["message"] for event in await stage.kube.events(reason="Repaired")]
            return any(text.endswith(": 3 objects deleted") for text in said)

        await until(deletions, what=lambda: "an Event that says what was deleted")


async def test_a_suspended_sync_rests_and_goes_on(stage: Stage) -> None:
    async with stage.operator() as operator:
        await stage.all(suspend=True)
        await stage.kube.condition(NAME, "Suspended", "True")
        await stage.kube.condition(NAME, "Ready", "Unknown", reason="Suspended")
        await stage.kube.annotate(NAME, sync_requested_at="meanwhile")
        await stage.kube.condition(NAME, "Ready", "True", plural=INSTANCES)
        assert await stage.runs() == []
        await until(
            lambda: _at_least(operator, f"nexus_auth_sync_suspended{_labels(stage)}", 1.0), what=lambda: "the metric"
        )
        await stage.kube.patch(SYNCS, NAME, {"spec": {"suspend": False}})
        await stage.ready()
        await stage.kube.condition(NAME, "Suspended", "False")
        body = await stage.kube.get(SYNCS, NAME)
        assert body["status"]["lastHandledSyncRequest"] == "meanwhile"
        await stage.kube.patch(SYNCS, NAME, {"spec": {"suspend": True}})
        await stage.kube.condition(NAME, "Suspended", "True")
        body = await stage.kube.get(SYNCS, NAME)
        assert "nextSyncTime" not in body["status"]


async def test_a_secret_that_is_rotated_is_taken_up_without_a_restart(stage: Stage) -> None:
    async with stage.operator():
        await stage.all()
        await stage.ready()
        await stage.kube.secret("clerk", secret_key="sk_test_rotated_away")
        await stage.kube.condition(NAME, "Ready", "False", plural=INSTANCES)
        await stage.requested("with the wrong one")
        await stage.kube.condition(NAME, "Ready", "False", reason="UpstreamUnauthorized")
        await stage.secrets()
        await stage.ready()
        await stage.kube.condition(NAME, "Ready", "True", plural=INSTANCES)


async def test_the_history_has_five_runs_and_repeated_requests_are_each_answered(stage: Stage) -> None:
    async with stage.operator():
        await stage.all()
        await stage.ready()
        for token in ("a", "b", "c", "deep@d"):
            body = await stage.requested(token)
        history = body["status"]["history"]
        assert [of["id"] for of in history] == [6, 5, 4, 3, 2]
        assert history[0]["mode"] == "deep"
        assert history[0] == body["status"]["lastSync"]


async def test_a_spec_change_is_acted_upon_and_the_status_is_written_only_on_change(stage: Stage) -> None:
    async with stage.operator() as operator:
        await stage.all()
        await stage.ready()
        await stage.kube.patch(SYNCS, NAME, {"spec": {"interval": "2h"}})
        body = await stage.kube.until(
            SYNCS, NAME, lambda body: body["status"]["observedGeneration"] == 2, what="generation 2"
        )
        await stage.ready()
        body = await stage.kube.get(SYNCS, NAME)
        visits = 'nexus_auth_reconcile_total{controller="clerksyncs",result="success"}'
        seen = (await operator.metrics())[visits]
        # looks go on, one a second, and none of them writes
        await until(lambda: _at_least(operator, visits, seen + 2), what=lambda: "two more looks")
        after = await stage.kube.get(SYNCS, NAME)
        assert after["metadata"]["resourceVersion"] == body["metadata"]["resourceVersion"]


async def test_metrics_go_with_their_object(stage: Stage) -> None:
    async with stage.operator() as operator:
        await stage.all()
        await stage.ready()
        at = _labels(stage)
        metrics = await operator.metrics()
        ready = at.replace("}", ',status="True",type="Ready"}')
        assert metrics[f"nexus_auth_sync_condition{ready}"] == 1
        named = [name for name in metrics if f'name="{NAME}"' in name]
        assert {name.partition("{")[0] for name in named} >= {
            "nexus_auth_sync_condition",
            "nexus_auth_sync_info",
            "nexus_auth_sync_interval_seconds",
            "nexus_auth_sync_last_success_timestamp_seconds",
            "nexus_auth_sync_drift_rows",
            "nexus_auth_sync_runs_total",
            "nexus_auth_sync_clerk_requests_total",
            "nexus_auth_instance_condition",
        }
        assert metrics['nexus_auth_watch_last_event_timestamp_seconds{resource="clerksyncs"}'] > 0
        await stage.kube.delete(SYNCS, NAME)
        await stage.kube.delete(INSTANCES, NAME)
        await until(lambda: _no_name(operator), what=lambda: operator.log.read_text()[-2_000:])


async def _no_name(operator: Operator) -> bool:
    return not [name for name in await operator.metrics() if f'name="{NAME}"' in name]


async def _at_least(operator: Operator, name: str, wanted: float) -> bool:
    return (await operator.metrics()).get(name, 0.0) >= wanted


def _labels(stage: Stage) -> str:
    return f'{{name="{NAME}",namespace="{stage.kube.namespace}"}}'
