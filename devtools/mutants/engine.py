"""The list's part for the reconciler: how it walks, compares, verifies, buries, remembers and ends."""

from devtools.mutants.fault import Fault

WALK = "tests/reconcile/test_walk.py::test_"
DELETION = "tests/reconcile/test_deletion.py::test_"
REVIVAL = "tests/reconcile/test_revival.py::test_"
UNEXPECTED = "tests/reconcile/test_unexpected.py::test_"
ADOPTION = "tests/reconcile/test_adoption.py::test_"
SCHEDULE = "tests/reconcile/test_schedule.py::test_"
BROKEN = "tests/reconcile/test_broken_servers.py::test_"
STANDALONE = "tests/reconcile/test_standalone.py::test_"
COUNTS = "tests/reconcile/test_counts.py::test_"
BAD = "one_object_that_cannot_be_held_is_kept_with_its_reason_and_stops_nothing"

FAULTS: tuple[Fault, ...] = (
    Fault(
        "verification goes by status 200 alone",
        "5 no mass deletion",
        "nexus_auth/reconcile/verification.py",
        "        if _is_strange(page, question, entity=entity, read=read):\n",
        "        if False:\n",
        (
            f"{DELETION}an_answer_with_a_user_that_was_not_asked_for_proves_nothing",
            f"{DELETION}an_answer_with_members_that_were_not_asked_for_proves_nothing",
        ),
    ),
    Fault(
        "a list page counts as the first read",
        "4 deletion wins",
        "nexus_auth/reconcile/writer.py",
        '                    purpose="revive" if purpose == "revive" else "lower",\n',
        '                    purpose="revive" if purpose == "revive" else "lower",\n                    answers=1,\n',
        (
            f"{REVIVAL}a_false_tombstone_is_revived_by_two_reads_and_not_by_a_list_page",
            f"{REVIVAL}a_stale_replica_revives_nothing",
        ),
    ),
    Fault(
        "rows without an arbiter row are not looked for",
        "5 no mass deletion",
        "nexus_auth/reconcile/sweep.py",
        "            self._has_unadopted = await comparison.has_unadopted(connection, self._run.kind)\n",
        "",
        (f"{ADOPTION}what_clerk_lists_is_taken_over_without_a_delete",),
        row="D1",
    ),
    Fault(
        "one absent read buries",
        "5 no mass deletion",
        "nexus_auth/reconcile/deletion.py",
        "    return await bury_or_park(context, {i: at for i, at in verdict.gone.items() if i in verdict.replaced})\n",
        "    return await bury_or_park(context, verdict.gone)\n",
        (
            f"{DELETION}two_reads_by_name_that_lie_apart_bury_and_one_does_not",
            f"{DELETION}a_user_that_the_lists_replica_learns_of_late_stays",
        ),
        row="D4",
    ),
    Fault(
        "one object that Postgres refuses fails its page",
        "1 convergence",
        "nexus_auth/reconcile/writer.py",
        "            if not wrong or not is_poison(error) or len(self.refused) >= limit:\n",
        "            if True:\n",
        (f"{UNEXPECTED}{BAD}[no truth value-full]",),
        row="D7",
    ),
    Fault(
        "one object of a wrong shape fails its page",
        "1 convergence",
        "nexus_auth/reconcile/answers.py",
        "        return _with_malformed(answer, of)\n    if b",
        '        raise ClerkUnavailable("no page of objects") from None\n    if b',
        (f"{UNEXPECTED}{BAD}[an updated_at of text-full]",),
        row="D7",
    ),
    Fault(
        "another membership of the same pair says nothing",
        "1 convergence",
        "nexus_auth/reconcile/verification.py",
        "                    replaced.add(object_id)\n",
        "                    pass\n",
        (f"{DELETION}the_older_of_two_memberships_of_one_pair_is_buried_at_once",),
        row="D8",
    ),
    Fault(
        "what nobody expected leaves the engine",
        "runs end with a word",
        "nexus_auth/reconcile/engine.py",
        "            error = _named(met, run)\n            state",
        "            if not isinstance(met, ClerkRefused | ClerkUnavailable | instance.WrongInstance):\n"
        "                raise\n"
        "            error = _named(met, run)\n            state",
        (f"{UNEXPECTED}an_exception_that_nobody_expected_is_named_logged_and_tried_again",),
        row="R1",
    ),
    Fault(
        "an error that nobody expected is no trouble",
        "runs end with a word",
        "services/reconciler/leading.py",
        "        error = InternalError(error)\n",
        "        raise error\n",
        (f"{UNEXPECTED}whatever_is_raised_is_a_trouble",),
        row="R1",
    ),
    Fault(
        "a tombstone that names no user is queued all the same",
        "runs end with a word",
        "nexus_auth/reconcile/writer.py",
        "        if parents is None:  # nobody",
        "        if parents is None and False:  # nobody",
        (f"{UNEXPECTED}a_tombstone_that_is_listed_without_its_user_holds_no_other_up",),
        row="R2",
    ),
    Fault(
        "a later run does not supersede",
        "one run waits",
        "nexus_auth/store/runs.py",
        '        await connection.execute(SQL["supersede"], run.sync, run.kind, run.id)\n        await connection.execute(SQL["park_ids"]',
        '        await connection.execute(SQL["park_ids"]',
        (f"{DELETION}a_later_sweep_that_finds_others_supersedes_and_says_by_what",),
        row="R4",
    ),
    Fault(
        "a clean run clears nothing",
        "one run waits",
        "nexus_auth/store/runs.py",
        "        if clears:\n",
        "        if False:\n",
        (f"{DELETION}a_sweep_that_finds_nothing_to_delete_clears_what_waits",),
        row="R4",
    ),
    Fault(
        "the newest run decides whether something waits",
        "one run waits",
        "services/reconciler/metrics.py",
        "        self.parked.labels(sync).set(waiting > 0)\n",
        "        self.parked.labels(sync).set(result.deletions_parked)\n",
        (f"{STANDALONE}parked_is_1_for_as_long_as_something_waits",),
        row="R5",
    ),
    Fault(
        "a doubt that is settled leaves its finding open",
        "drift is what differs",
        "nexus_auth/reconcile/settling.py",
        '    await _forget(context, [doubt.id for doubt in due], action="settled")\n',
        '    await _forget(context, [doubt.id for doubt in due], action="queued")\n',
        (f"{UNEXPECTED}doubts_that_clerk_settles_as_gone_close_their_findings",),
        row="R6",
    ),
    Fault(
        "retries do not grow",
        "each kind has its own times",
        "services/reconciler/schedule.py",
        "AGAIN_SECONDS * 2.0 ** min(failures - 1, 20)",
        "AGAIN_SECONDS",
        ("tests/unit/test_schedule_wait.py::test_retries_of_one_kind_grow_and_hold_no_other_up",),
        row="R7",
    ),
    Fault(
        "an early empty page ends a list",
        "1 convergence",
        "nexus_auth/reconcile/walk.py",
        "            if seen >= least or ended:\n",
        "            if True:\n",
        (f"{BROKEN}an_empty_page_in_the_middle_of_a_list_is_asked_for_once_more",),
        row="R8",
    ),
    Fault(
        "any run answers the mark of an outage",
        "each kind has its own times",
        "nexus_auth/store/history.sql",
        "    select max(r.started_at) from clerk_private.runs r\n    where r.sync = $1 and r.kind = k.kind and (",
        "    select max(r.started_at) from clerk_private.runs r\n    where r.sync = $1 and (",
        (f"{SCHEDULE}the_mark_of_an_outage_is_answered_for_each_kind_by_a_run_of_that_kind",),
        row="R9",
    ),
    Fault(
        "a second walk counts once more",
        "a plan is right",
        "nexus_auth/reconcile/sweep.py",
        "                self._forget_attempt(counted)\n",
        "                pass\n",
        (f"{UNEXPECTED}a_plan_counts_once_what_a_second_walk_finds_again",),
        row="R12",
    ),
    Fault(
        "a key that was changed is not read again",
        "secrets are read at each run",
        "services/reconciler/standalone/__main__.py",
        "            while self._access(sync, of) == access:\n",
        "            while True:\n",
        (f"{STANDALONE}a_key_that_was_changed_in_its_file_is_used_at_once",),
        row="R13",
    ),
    Fault(
        "runs are kept for ever",
        "kept as configured",
        "nexus_auth/store/runs.py",
        '    for statement in (SQL["prune_findings"], SQL["prune_runs"]):\n',
        "    for statement in ():\n",
        (f"{SCHEDULE}runs_and_findings_are_removed_after_their_time_and_what_waits_stays",),
        row="R14",
    ),
    Fault(
        "reasons that cannot be told fail the run",
        "reasons are apart",
        "nexus_auth/reconcile/attribution.py",
        "            if runs.is_away(error):\n                raise\n",
        "            raise\n",
        (f"{UNEXPECTED}reasons_that_cannot_be_told_are_left_out_and_the_repair_stands",),
        row="R16",
    ),
    Fault(
        "deletions that wait for a human count as a difference",
        "counts",
        "nexus_auth/store/counts.sql",
        "  where d.kind = $1 and r.state = 'parked' and r.parked_digest is not null\n",
        "  where false and d.kind = $1\n",
        (f"{COUNTS}deletions_that_wait_for_a_human_are_no_difference",),
    ),
)
