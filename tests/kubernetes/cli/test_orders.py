"""What people tell the operator: sync, approve, suspend, resume."""

from collections.abc import Mapping
from typing import Any

from tests.kubernetes.cli.commands import Nexus, Objects, condition, drifted, in_step, parked, run

REQUESTED = "nexus-auth.dev/sync-requested-at"
APPROVE, APPROVED_BY = "nexus-auth.dev/approve", "nexus-auth.dev/approved-by"


def test_a_sync_is_asked_for_by_an_annotation(nexus: Nexus, objects: Objects) -> None:
    objects.sync()
    ran = nexus("sync", "app", "--deep")
    assert ran.code == 0, ran.err
    asked = objects.get()["metadata"]["annotations"][REQUESTED]
    assert asked.startswith("deep@2")
    assert asked in ran.out
    nexus("sync")
    again = objects.get()["metadata"]["annotations"][REQUESTED]
    assert "@" not in again


def test_waiting_ends_with_the_echo_and_tells_the_run(nexus: Nexus, objects: Objects) -> None:
    objects.sync(status=in_step(lastHandledSyncRequest="full@before"))

    def answer(annotations: Mapping[str, str]) -> dict[str, Any] | None:
        asked = annotations.get(REQUESTED)
        return in_step(lastHandledSyncRequest=asked, lastSync=run(8)) if asked else None

    with objects.operator("app", answer):
        ran = nexus("sync", "--full", "--wait")
    assert ran.code == 0, ran.err
    assert f"{objects.namespace}/app: sweep 8 (full) completed; 12 requests" in ran.out


def test_a_run_that_leaves_drift_ends_with_1(nexus: Nexus, objects: Objects) -> None:
    objects.sync()

    def answer(annotations: Mapping[str, str]) -> dict[str, Any] | None:
        asked = annotations.get(REQUESTED)
        return {**drifted("user_1", total=1), "lastHandledSyncRequest": asked} if asked else None

    with objects.operator("app", answer):
        ran = nexus("sync", "--wait", "--output", "json")
    assert ran.code == 1
    assert ran.json()["drift"]["total"] == 1
    assert "1 objects differ" in ran.err


def test_nobody_answers_within_the_time(nexus: Nexus, objects: Objects) -> None:
    objects.sync()
    ran = nexus("sync", "--wait", "--timeout", "1")
    assert ran.code == 1
    assert "was not answered in 1 s (NotSeen: no operator has looked at it yet); see kubectl nexus logs" in ran.err


def test_a_suspended_sync_is_not_asked(nexus: Nexus, objects: Objects) -> None:
    objects.sync(suspend=True)
    ran = nexus("sync")
    assert ran.code == 1
    assert "is suspended; kubectl nexus resume app" in ran.err
    assert "annotations" not in objects.get()["metadata"]


def test_suspend_and_resume_set_the_field_and_say_what_was_so_already(nexus: Nexus, objects: Objects) -> None:
    objects.sync()
    assert "is suspended" in nexus("suspend", "app").out
    assert objects.get()["spec"]["suspend"] is True
    assert "was suspended already" in nexus("suspend").out
    assert "is resumed" in nexus("resume", "clerksync/app").out
    assert objects.get()["spec"]["suspend"] is False


def test_several_syncs_want_a_name_and_none_says_so(nexus: Nexus, objects: Objects) -> None:
    ran = nexus("sync")
    assert ran.code == 2
    assert "has no ClerkSync; -n names another" in ran.err
    objects.sync("one")
    objects.sync("two")
    ran = nexus("sync")
    assert ran.code == 2
    assert "name one: one, two" in ran.err
    ran = nexus("sync", "three")
    assert ran.code == 1
    assert 'clerksyncs.nexus-auth.dev "three" not found' in ran.err


def test_an_approval_names_run_and_person(nexus: Nexus, objects: Objects) -> None:
    objects.sync(status=parked(41))
    objects.sync("other", status=in_step())

    def answer(annotations: Mapping[str, str]) -> dict[str, Any] | None:
        if annotations.get(APPROVE) != "41":
            return None
        return {
            "lastHandledApproval": "41",
            "parkedRun": None,
            "parkedRuns": None,
            "conditions": [condition("Ready", "True", "InSync")],
        }

    with objects.operator("app", answer):
        ran = nexus("approve", "41", "--yes")
    assert ran.code == 0, ran.err
    assert "run 41 would delete 11 users" in ran.err
    who = objects.get()["metadata"]["annotations"][APPROVED_BY]
    assert who
    assert f"run 41 of {objects.namespace}/app is approved by {who}, for 24 hours" in ran.out


def test_an_approval_that_the_operator_refuses_is_no_success(nexus: Nexus, objects: Objects) -> None:
    objects.sync(status=parked(41))
    with objects.operator("app", lambda a: {"lastHandledApproval": "41"} if APPROVE in a else None):
        ran = nexus("approve", "41", "--yes")
    assert ran.code == 1
    assert "run 41 still waits; kubectl describe clerksync app shows the Event that says why" in ran.err


def test_only_what_is_parked_can_be_approved_and_only_on_purpose(nexus: Nexus, objects: Objects) -> None:
    objects.sync(status=parked(41))
    ran = nexus("approve", "39", "--yes")
    assert ran.code == 1
    assert "what waits: 41 (app)" in ran.err
    ran = nexus("approve", "40", "--yes")
    assert ran.code == 1
    assert "was superseded by 41: look at it, then approve 41" in ran.err
    ran = nexus("approve", "41")
    assert ran.code == 2
    assert "say --yes" in ran.err
    assert "annotations" not in objects.get()["metadata"]
