"""Whatever ends or fails inside the operator is seen: by a condition, an Event, a metric, the log, and by the process.

The operator runs in the test's own process here, so that its tasks can be ended one after the other.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from services.reconciler.operator.__main__ import Operator
from services.reconciler.operator.settings import OperatorSettings
from services.reconciler.operator.watch import Watch
from tests.kubernetes.operator.conftest import NAME, Stage
from tests.kubernetes.operator.kube import INSTANCES, SYNCS
from tests.process import until


class Here:
    """An operator in this process."""

    def __init__(self, operator: Operator, running: "asyncio.Task[int]") -> None:
        self._operator = operator
        self.running = running

    def sample(self, name: str, **labels: str) -> float:
        return self._operator._registry.get_sample_value(name, labels) or 0.0

    def task(self, name: str) -> "asyncio.Task[Any] | None":
        return next((task for task in asyncio.all_tasks() if task.get_name() == name), None)

    async def begun(self, name: str) -> "asyncio.Task[Any]":
        await until(lambda: self.task(name) is not None, what=lambda: f"a task {name}")
        found = self.task(name)
        assert found is not None
        return found

    async def begun_again(self, name: str) -> None:
        """Returns once the task has failed once, was counted, and runs again."""

        def so() -> bool:
            failed = self.sample("nexus_auth_task_failures_total", task=name) >= 1
            return failed and self.sample("nexus_auth_task_running", task=name) == 1 and self.task(name) is not None

        await until(so, what=lambda: f"{name} runs again")


@asynccontextmanager
async def operator_here(stage: Stage, patch: pytest.MonkeyPatch, **settings: Any) -> AsyncIterator[Here]:
    patch.setenv("KUBECONFIG", str(stage.kubeconfig))
    operator = Operator(
        OperatorSettings(
            watch_namespaces=stage.kube.namespace,
            lease_namespace=stage.kube.namespace,
            lease_seconds=5,
            look_seconds=1.0,
            verify_after=0.0,
            health_port=0,
            api_hosts=stage.clerk.api_url.partition("://")[2],
            allow_fsync_off=True,
            **settings,
        )
    )
    running = asyncio.create_task(operator.run(), name="operator")
    try:
        yield Here(operator, running)
    finally:
        operator._stop.set()
        await asyncio.wait({running}, timeout=20)
        assert running.done()
        if not running.cancelled():
            running.result()


async def acts_upon_a_request(stage: Stage, token: str) -> None:
    await stage.requested(token)
    await stage.ready()


@pytest.mark.parametrize("name", ["scheduler", "watch", "lease renewal"])
async def test_a_task_that_ends_is_counted_and_begun_again(
    stage: Stage, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with operator_here(stage, monkeypatch) as here:
        await stage.all()
        await stage.ready()
        (await here.begun(name)).cancel()
        await here.begun_again(name)
        await acts_upon_a_request(stage, f"after-{name.replace(' ', '-')}")
        assert not here.running.done()


async def test_a_watch_whose_thread_ends_is_begun_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = Watch._run_once
    ended: list[str] = []

    def once_broken(self: Watch, stopping: threading.Event) -> None:
        if not ended:
            ended.append(threading.current_thread().name)
            raise SystemExit("planted")  # no Exception: nothing in the thread catches it
        genuine(self, stopping)

    monkeypatch.setattr(Watch, "_run_once", once_broken)
    async with operator_here(stage, monkeypatch) as here:
        await here.begun_again("watch")
        await stage.all()
        await stage.ready()
    assert ended == ["kopf"]


async def test_a_reconcile_that_is_ended_from_outside_is_done_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with operator_here(stage, monkeypatch, failpoints_dir=stage.stops_at("run.led")) as here:
        await stage.all()
        await stage.kube.condition(NAME, "Reconciling", "True")
        (await here.begun(f"{SYNCS}/{stage.kube.namespace}/{NAME}")).cancel()
        stage.goes_on("run.led")
        await stage.ready()
        assert here.sample("nexus_auth_reconcile_total", controller=SYNCS, result="cancelled") >= 1


async def test_the_process_ends_with_its_main_task(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left that could wait for ever: the kubelet starts the container again."""
    async with operator_here(stage, monkeypatch) as here:
        await stage.all()
        await stage.ready()
        (await here.begun("term")).cancel()
        await asyncio.wait({here.running}, timeout=20)
        assert here.running.cancelled()


RECONCILE = "services.reconciler.operator.reconcile"


@contextmanager
def broken(function: str, error: Exception) -> Iterator[None]:
    """A function of the operator raises this, for as long as the block lasts."""

    def raises(*_: Any, **__: Any) -> None:
        raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(function, raises)
        yield


async def test_an_unexpected_error_in_a_run_is_a_condition_an_event_a_metric_and_a_trace(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with operator_here(stage, monkeypatch) as here:
        with broken(f"{RECONCILE}.due", KeyError("planted")):
            await stage.all()
            ready = await stage.kube.condition(NAME, "Ready", "False", reason="InternalError")
            assert "KeyError" in ready["message"]
            assert "planted" not in str((await stage.kube.get(SYNCS, NAME))["status"])
            await until(lambda: stage.kube.events(reason="InternalError"), what=lambda: "an Event")
            (event, *_) = await stage.kube.events(reason="InternalError")
            assert event["type"] == "Warning"
            assert here.sample("nexus_auth_internal_errors_total", controller=SYNCS) >= 1
            again = await stage.kube.until(
                SYNCS, NAME, lambda body: body["status"].get("consecutiveFailures", 0) >= 3, what="three tries"
            )
            assert again["status"]["nextSyncTime"]
            assert any(record.exc_info and "planted" in str(record.exc_info[1]) for record in caplog.records)
        await stage.ready()
        assert (await stage.kube.get(SYNCS, NAME))["status"]["consecutiveFailures"] == 0


async def test_an_unexpected_error_at_an_instance_is_a_condition_too(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with operator_here(stage, monkeypatch) as here:
        with broken(f"{RECONCILE}.instance_of_key", ZeroDivisionError("planted")):
            await stage.all()
            ready = await stage.kube.condition(NAME, "Ready", "False", reason="InternalError", plural=INSTANCES)
            assert "ZeroDivisionError" in ready["message"]
            assert here.sample("nexus_auth_internal_errors_total", controller=INSTANCES) >= 1
        await stage.kube.condition(NAME, "Ready", "True", plural=INSTANCES)


async def test_a_status_that_cannot_be_made_is_counted_and_tried_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No condition can show this error: the metric and the log do, and other objects are reconciled."""
    async with operator_here(stage, monkeypatch) as here:
        with broken("services.reconciler.operator.status.after", RuntimeError("planted")):
            await stage.all()
            await stage.kube.condition(NAME, "Ready", "True", plural=INSTANCES)
            await until(
                lambda: here.sample("nexus_auth_internal_errors_total", controller=SYNCS) >= 1,
                what=lambda: "the metric",
            )
        await stage.ready()
