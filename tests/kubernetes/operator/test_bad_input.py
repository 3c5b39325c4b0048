"""Each row of bad input, both ways: the cause brings a condition with a sentence, and goes with it."""

import copy
from collections.abc import AsyncIterator
from typing import Any

import pytest
from kubernetes.aio.client import ApiException

from devtools.clerk_emulator import ApiFault
from devtools.postgres import create_database, create_logins, drop_database
from nexus_auth.store.migrations import migrate, rollback
from tests.kubernetes.operator.conftest import NAME, Stage
from tests.kubernetes.operator.kube import INSTANCES, SYNCS, Kube
from tests.process import until


async def test_a_secret_that_is_missing(stage: Stage) -> None:
    async with stage.operator():
        await stage.instance()
        await stage.sync()
        ready = await stage.kube.condition(NAME, "Ready", "False", reason="SecretMissing")
        assert "Secret database in namespace" in ready["message"]
        await stage.kube.condition(NAME, "DatabaseReady", "False", reason="SecretMissing")
        missing = await stage.kube.condition(NAME, "Ready", "False", reason="SecretMissing", plural=INSTANCES)
        assert "Secret clerk" in missing["message"]
        await stage.kube.secret("database", url=stage.database.url("reconciler"))
        waiting = await stage.kube.condition(NAME, "Ready", "False", reason="InstanceNotReady")
        assert "Secret clerk" in waiting["message"]
        await stage.kube.secret("clerk", secret_key=stage.clerk.secret_key)
        await stage.ready()
        await stage.kube.condition(NAME, "Ready", "True", plural=INSTANCES)
        await stage.kube.delete("secrets", "database")
        await stage.kube.condition(NAME, "Ready", "False", reason="SecretMissing")
        await stage.kube.secret("database", url=stage.database.url("reconciler"))
        await stage.ready()


async def test_a_key_that_is_missing_in_its_secret(stage: Stage) -> None:
    async with stage.operator():
        await stage.secrets()
        await stage.instance()
        await stage.sync(database={"secretRef": {"name": "database", "key": "uri"}})
        ready = await stage.kube.condition(NAME, "Ready", "False", reason="SecretMissing")
        assert "has no key uri: add it" in ready["message"]
        await stage.kube.secret("database", url=stage.database.url("reconciler"), uri=stage.database.url("reconciler"))
        await stage.ready()


async def test_a_key_of_clerks_that_is_wrong(stage: Stage) -> None:
    async with stage.operator():
        await stage.kube.secret("clerk", secret_key="sk_live_wrong")
        await stage.kube.secret("database", url=stage.database.url("reconciler"))
        await stage.instance(instanceId=stage.clerk.instance_id)
        await stage.sync()
        ready = await stage.kube.condition(NAME, "Ready", "False", reason="UpstreamUnauthorized")
        assert "valid API key" in ready["message"]
        assert "sk_live" not in ready["message"]
        await stage.kube.condition(NAME, "Stalled", "True")
        await stage.kube.condition(NAME, "ConnectionReady", "False")
        await stage.kube.condition(NAME, "DatabaseReady", "True")
        await stage.kube.condition(NAME, "Ready", "False", reason="UpstreamUnauthorized", plural=INSTANCES)
        assert await stage.kube.events(reason="UpstreamUnauthorized")
        await stage.secrets()
        await stage.ready()
        await stage.kube.condition(NAME, "Stalled", None)
        await stage.kube.condition(NAME, "Ready", "True", plural=INSTANCES)


async def test_the_wrong_instance(stage: Stage) -> None:
    async with stage.operator():
        await stage.secrets()
        await stage.instance(instanceId="ins_another")
        await stage.sync()
        ready = await stage.kube.condition(NAME, "Ready", "False", reason="WrongInstance")
        assert stage.clerk.instance_id in ready["message"]
        wrong = await stage.kube.condition(NAME, "Ready", "False", reason="WrongInstance", plural=INSTANCES)
        assert "correct one of them" in wrong["message"]
        # the database was claimed by the mistake: undone as `nexus-auth instance claim` does it
        await stage.world.admin.execute("update clerk_private.instance set id = $1", stage.clerk.instance_id)
        await _recreate_instance(stage, instanceId=stage.clerk.instance_id)
        await stage.ready()


async def _recreate_instance(stage: Stage, **spec: Any) -> None:
    """An instance's id is for good: another one is another object."""
    await stage.kube.delete(INSTANCES, NAME)
    await stage.kube.condition(NAME, "Ready", "False", reason="InstanceNotFound")
    await stage.instance(**spec)


async def test_an_instance_that_is_not_there(stage: Stage) -> None:
    async with stage.operator():
        await stage.secrets()
        await stage.sync()
        ready = await stage.kube.condition(NAME, "Ready", "False", reason="InstanceNotFound")
        assert f"there is no ClerkInstance {NAME}" in ready["message"]
        await stage.instance()
        await stage.ready()


async def test_a_clerk_that_answers_nothing_good(stage: Stage) -> None:
    stage.clerk.add_fault(ApiFault("status", status=503))
    async with stage.operator():
        await stage.all()
        await stage.kube.condition(NAME, "Ready", "False", reason="UpstreamUnavailable")
        stage.clerk.api_faults.clear()
        await stage.ready()


async def test_a_database_that_is_away(stage: Stage) -> None:
    nowhere = stage.database.url("reconciler").replace(f"/{stage.database.name}", "/nowhere")
    async with stage.operator() as operator:
        await stage.kube.secret("clerk", secret_key=stage.clerk.secret_key)
        await stage.kube.secret("database", url="postgres://clerk_reconciler_login:x@127.0.0.1:1/x")
        await stage.instance()
        await stage.sync()
        ready = await stage.kube.condition(NAME, "Ready", "False", reason="DatabaseUnavailable")
        assert "cannot be reached" in ready["message"]
        await stage.kube.condition(NAME, "Ready", "False", reason="DatabaseUnavailable", plural=INSTANCES)
        await stage.kube.secret("database", url=nowhere)
        await operator.said('\\"nowhere\\" does not exist')
        assert "nowhere" not in str((await stage.kube.get(SYNCS, NAME))["status"])
        await stage.secrets()
        await stage.ready()
        await stage.kube.condition(NAME, "Ready", "True", plural=INSTANCES)


async def test_a_login_that_is_refused(stage: Stage) -> None:
    async with stage.operator():
        await stage.kube.secret("clerk", secret_key=stage.clerk.secret_key)
        await stage.kube.secret("database", url=stage.database.url("webhook"))
        await stage.instance()
        await stage.sync()
        ready = await stage.kube.condition(NAME, "Ready", "False", reason="DatabaseRefused")
        assert "login" in ready["message"]
        await stage.secrets()
        await stage.ready()


async def test_a_login_that_may_do_too_much(stage: Stage) -> None:
    async with stage.operator():
        await stage.kube.secret("clerk", secret_key=stage.clerk.secret_key)
        await stage.kube.secret("database", url=stage.database.admin_url)
        await stage.instance()
        await stage.sync()
        ready = await stage.kube.condition(NAME, "Ready", "False", reason="DatabaseRefused")
        assert "superuser" in ready["message"]
        assert await stage.runs() == []
        await stage.secrets()
        await stage.ready()


async def test_a_schema_that_is_too_old(stage: Stage) -> None:
    admin = stage.database.admin_url
    rollback(admin)
    async with stage.operator():
        await stage.all()
        ready = await stage.kube.condition(NAME, "Ready", "False", reason="SchemaOutdated")
        assert "nexus-auth migrate" in ready["message"]
        migrate(admin)
        await stage.ready()


async def test_an_interval_that_makes_no_sense_is_refused_at_once(stage: Stage) -> None:
    await stage.secrets()
    with pytest.raises(ApiException, match="interval") as refused:
        await stage.sync(interval="soon")
    assert refused.value.status == 422


async def test_a_spec_that_a_laxer_definition_let_through(stage: Stage, lax_definitions: None) -> None:
    async with stage.operator():
        await stage.all(interval="2h", fullSweepInterval="1h")
        ready = await stage.kube.condition(NAME, "Ready", "False", reason="InvalidSpec")
        assert "spec.fullSweepInterval: must not be shorter than interval: correct the spec" in ready["message"]
        await stage.kube.condition(NAME, "Stalled", "True", reason="InvalidSpec")
        await stage.kube.patch(SYNCS, NAME, {"spec": {"fullSweepInterval": "3h"}})
        await stage.ready()
        await stage.kube.condition(NAME, "Stalled", None)
        await stage.kube.patch(SYNCS, NAME, {"spec": {"interval": "5h"}})
        await stage.kube.condition(NAME, "Ready", "False", reason="InvalidSpec")


@pytest.fixture
async def lax_definitions(kube: Kube) -> AsyncIterator[None]:
    """Custom resources without a rule about intervals, as an older release's may be; the present ones at the end."""
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/clerksyncs.nexus-auth.dev"
    schema = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/x-kubernetes-validations"
    definition = await kube.call("GET", path)
    definition["metadata"] = {"name": definition["metadata"]["name"]}
    lax = copy.deepcopy(definition)
    of: Any = lax
    *way, last = schema.strip("/").split("/")
    for step in way:
        of = of[int(step) if step.isdecimal() else step]
    del of[last]
    spec = {"instanceRef": {"name": "none"}, "database": {"secretRef": {"name": "none"}}}
    spec |= {"interval": "2h", "fullSweepInterval": "1h"}

    async def accepts() -> bool:
        try:
            await kube.create(SYNCS, "probe", spec=spec)
        except ApiException as error:
            if error.status != 422:
                raise
            return False
        await kube.delete(SYNCS, "probe")
        return True

    async def refuses() -> bool:
        return not await accepts()

    await kube.call("PATCH", path, {"spec": lax["spec"]}, merge=True)
    await until(accepts, what=lambda: "a definition that is lax")
    try:
        yield
    finally:
        await kube.call("PATCH", path, {"spec": definition["spec"]}, merge=True)
        await until(refuses, what=lambda: "the definition as it was")


async def test_a_sync_that_keeps_nothing_is_refused_at_once(stage: Stage) -> None:
    with pytest.raises(ApiException, match="none is enabled") as refused:
        await stage.sync(resources=[{"name": "users", "enabled": False}])
    assert refused.value.status == 422


async def test_two_syncs_that_keep_the_same_rows(stage: Stage) -> None:
    async with stage.operator():
        await stage.all()
        await stage.ready()
        await stage.sync("younger")
        stalled = await stage.kube.condition("younger", "Stalled", "True", reason="Conflict")
        assert f"ClerkSync {NAME} is older" in stalled["message"]
        await stage.kube.condition("younger", "Ready", "False", reason="Conflict")
        await stage.ready()
        await stage.kube.delete(SYNCS, NAME)
        await stage.ready("younger")
        await stage.kube.condition("younger", "Stalled", None)


async def test_two_names_of_one_database(stage: Stage) -> None:
    url = stage.database.url("reconciler")
    assert "@127.0.0.1:" in url
    async with stage.operator():
        await stage.all()
        await stage.ready()
        await stage.kube.secret("alias", url=url.replace("@127.0.0.1:", "@localhost:"))
        await stage.sync("younger", database={"secretRef": {"name": "alias"}})
        await stage.kube.condition("younger", "Ready", "False", reason="Conflict")
        await stage.instance("second", stateDatabase={"secretRef": {"name": "alias"}})
        await stage.kube.condition("second", "Ready", "True", plural=INSTANCES)
        await stage.kube.delete(SYNCS, NAME)
        await stage.ready("younger")


async def test_a_budget_that_lies_in_two_databases(stage: Stage) -> None:
    async with stage.operator():
        await stage.all()
        await stage.ready()
        await stage.kube.condition(NAME, "Ready", "True", plural=INSTANCES)
        name = f"{stage.database.name}_state"
        server = stage.database.admin_url.rpartition("/")[0]
        url = create_database(f"{server}/postgres", name)
        try:
            migrate(url)
            other = create_logins(url)
            await stage.kube.secret("other", url=other.url("reconciler"))
            await stage.instance("second", stateDatabase={"secretRef": {"name": "other"}})
            mismatch = await stage.kube.condition(
                "second", "Ready", "False", reason="StateDatabaseMismatch", plural=INSTANCES
            )
            assert "the same stateDatabase" in mismatch["message"]
            await stage.kube.patch(
                INSTANCES, "second", {"spec": {"stateDatabase": {"secretRef": {"name": "database"}}}}
            )
            await stage.kube.condition("second", "Ready", "True", plural=INSTANCES)
        finally:
            drop_database(f"{server}/postgres", name)


async def test_a_status_that_somebody_else_edits(stage: Stage) -> None:
    async with stage.operator():
        await stage.all()
        await stage.ready()
        before = (await stage.kube.get(SYNCS, NAME))["status"]
        forged: dict[str, Any] = {"conditions": [], "lastSync": None, "consecutiveFailures": 99}
        await stage.kube.patch(SYNCS, NAME, {"status": forged}, sub="status")
        await stage.ready()
        body = await stage.kube.until(
            SYNCS, NAME, lambda body: body["status"].get("consecutiveFailures") == 0, what="the operator's own status"
        )
        assert body["status"]["lastSync"] == before["lastSync"]


async def test_a_sync_that_is_deleted_while_it_runs(stage: Stage) -> None:
    async with stage.operator(NEXUS_AUTH_FAILPOINTS_DIR=stage.stops_at("run.led")) as operator:
        await stage.all()
        await stage.kube.condition(NAME, "Reconciling", "True")
        await operator.reached("run.led")
        await stage.kube.delete(SYNCS, NAME)
        await until(lambda: _run_is_aborted(stage), what=lambda: operator.log.read_text()[-3_000:])
        stage.goes_on("run.led")
        assert not [name for name in await operator.metrics() if f'name="{NAME}"' in name and "sync_" in name]
        await stage.sync()
        await stage.ready()
        assert await stage.world.differs() == []


async def test_a_run_whose_sync_was_deleted_while_nobody_led_is_ended_by_the_next_leader(stage: Stage) -> None:
    async with stage.operator(NEXUS_AUTH_FAILPOINTS_DIR=stage.stops_at("run.led")) as first:
        await stage.all()
        await first.reached("run.led")
    await stage.kube.delete(SYNCS, NAME)
    stage.goes_on("run.led")
    await stage.sync("successor")
    async with stage.operator(name="second"):
        await stage.ready("successor")
        assert [run for run in await stage.runs() if run[2] == "running"] == [(1, "full", "running", 1)]  # too fresh
        await stage.world.admin.execute("update clerk_private.runs set alive_at = now() - interval '1 hour'")
        await until(lambda: _run_is_aborted(stage), what=lambda: "the end of the run that nobody leads")


async def _run_is_aborted(stage: Stage) -> bool:
    row = await stage.world.admin.fetchrow("select state, message from clerk_private.runs where id = 1")
    return row is not None and row["state"] == "aborted" and "ClerkSync" in row["message"]


async def test_a_sync_that_is_edited_while_it_runs(stage: Stage) -> None:
    async with stage.operator(NEXUS_AUTH_FAILPOINTS_DIR=stage.stops_at("run.led")) as operator:
        await stage.all()
        await stage.kube.condition(NAME, "Reconciling", "True")
        await operator.reached("run.led")
        await stage.kube.patch(SYNCS, NAME, {"spec": {"drift": {"policy": "Report"}}})
        stage.goes_on("run.led")
        await stage.kube.condition(NAME, "Ready", "True", reason="SyncedWithDrift")
        assert await stage.world.ids() == []


async def test_nothing_of_a_password_is_told(stage: Stage) -> None:
    url = stage.database.url("reconciler")
    password = url.partition("://")[2].partition("@")[0].partition(":")[2]
    async with stage.operator() as operator:
        await stage.kube.secret("clerk", secret_key=stage.clerk.secret_key)
        await stage.kube.secret("database", url=url.replace("@", "@@"))
        await stage.instance()
        await stage.sync()
        await stage.kube.condition(NAME, "Ready", "False")
        assert password
        assert password not in str(await stage.kube.get(SYNCS, NAME))
        assert password not in operator.log.read_text()
        assert stage.clerk.secret_key not in operator.log.read_text()
