"""The list's part for what stands around the engine: tasks that are kept running, an entity's one declaration."""

from devtools.mutants.fault import Fault

TASKS = "tests/unit/test_tasks.py::test_"
OPERATOR_TASKS = "tests/kubernetes/operator/test_tasks.py::test_"
ANOTHER = "tests/integration/test_another_entity.py::test_"

FAULTS: tuple[Fault, ...] = (
    Fault(
        "a task that ended stays ended",
        "runs end with a word",
        "nexus_auth/tasks.py",
        "        kept.again = asyncio.get_running_loop().call_later(pause, self._begin, name, kept)\n",
        "",
        (
            f"{TASKS}a_task_that_ends_is_logged_counted_and_begun_again",
            f"{TASKS}a_task_that_somebody_cancels_is_begun_again_and_one_that_is_ended_is_not",
            "tests/integration/test_webhook_tasks.py"
            "::test_each_task_that_is_ended_is_noticed_and_begun_again_and_events_go_on",
            "tests/reconcile/test_standalone.py::test_every_task_that_ends_is_said_and_begun_again",
        ),
        row="R1",
    ),
    Fault(
        "an error that nobody expected passes for one of Clerk's",
        "runs end with a word",
        "services/reconciler/leading.py",
        "        error = InternalError(error)\n",
        '        return Trouble("UpstreamUnavailable", "try again", about="connection")\n',
        (
            f"{OPERATOR_TASKS}an_unexpected_error_in_a_run_is_a_condition_an_event_a_metric_and_a_trace",
            f"{OPERATOR_TASKS}an_unexpected_error_at_an_instance_is_a_condition_too",
        ),
        row="R3",
    ),
    Fault(
        "an error that nobody expected is not counted",
        "runs end with a word",
        "services/reconciler/operator/worker.py",
        "            self._metrics.internal_errors.labels(tracked.key[0]).inc()\n",
        "            pass\n",
        (f"{OPERATOR_TASKS}an_unexpected_error_in_a_run_is_a_condition_an_event_a_metric_and_a_trace",),
        row="R3",
    ),
    Fault(
        "only ids of the kinds of today are found in events",
        "an entity is declared once",
        "nexus_auth/clerk/envelope.py",
        "entity is None or entity.kind not in READ_QUICKLY or",
        "entity is None or not entity.projected or",
        (f"{ANOTHER}a_declaration_and_a_migration_are_an_entity",),
    ),
    Fault(
        "rows of an older projection pass for edited ones",
        "an entity is declared once",
        "sql/migrations/20261125000007_repair.sql",
        "case when o.projection is distinct from e.projection then 'projection' else 'edited' end",
        "'edited'",
        (f"{ANOTHER}a_migration_is_a_column_and_a_sweep_fills_it",),
    ),
)
