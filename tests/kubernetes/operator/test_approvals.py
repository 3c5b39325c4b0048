"""Whose run may be approved, under which policy: all else is refused with a sentence, and nothing is deleted."""

from tests.kubernetes.operator.conftest import NAME, Stage
from tests.kubernetes.operator.kube import SYNCS
from tests.process import until


async def parked(stage: Stage) -> int:
    """A run of this sync whose three deletions wait."""
    await stage.all(deletionGuard={"floor": 1, "percent": 0})
    await stage.ready()
    with stage.clerk.events.silence():
        for user in (await stage.world.ids())[2:5]:
            stage.clerk.changes.users.delete(user)
    await stage.requested("full@1")
    await stage.kube.condition(NAME, "Ready", "False", reason="DeletionGuardTripped")
    run: int = (await stage.kube.get(SYNCS, NAME))["status"]["parkedRun"]
    return run


async def refused(stage: Stage, run: int, *, sentence: str) -> None:
    await stage.kube.annotate(NAME, approve=str(run), approved_by="eve")

    async def told() -> bool:
        return any(sentence in event["message"] for event in await stage.kube.events(reason="ApprovalRefused"))

    await until(told, what=lambda: f"a refusal that says: {sentence}")
    assert await stage.world.dead() == set()
    approved = "select count(*) from clerk_private.runs where approved_by is not null"
    assert await stage.world.admin.fetchval(approved) == 0


async def test_an_approval_of_another_syncs_run_is_refused(stage: Stage) -> None:
    async with stage.operator():
        run = await parked(stage)
        await stage.world.admin.execute("update clerk_private.runs set sync = 'another' where id = $1", run)
        await refused(stage, run, sentence=f"there is no run {run} of")


async def test_an_approval_under_a_policy_of_reports_is_refused(stage: Stage) -> None:
    async with stage.operator():
        run = await parked(stage)
        await stage.kube.patch(SYNCS, NAME, {"spec": {"drift": {"policy": "Report"}}})
        await refused(stage, run, sentence="drift.policy is Report")


async def test_an_approval_of_a_superseded_run_names_the_later_one(stage: Stage) -> None:
    async with stage.operator():
        first = await parked(stage)
        with stage.clerk.events.silence():
            stage.clerk.changes.users.delete((await stage.world.ids())[6])
        await stage.requested("full@2")
        body = await stage.kube.until(
            SYNCS, NAME, lambda body: body["status"].get("parkedRun", 0) > first, what="a later run that waits"
        )
        (later,) = [run["id"] for run in body["status"]["parkedRuns"] if run["resource"] == "users"]
        await refused(stage, first, sentence=f"superseded by {later}")
