"""The list's part for the guard: what may delete, how much, who is asked before, and what a session must be like."""

from devtools.mutants.fault import Fault

ENTITIES = "sql/migrations/20261125000004_entities.sql"
INGEST = "sql/migrations/20261125000005_ingest.sql"
REPAIR = "sql/migrations/20261125000007_repair.sql"
MIRROR = "sql/migrations/20261125000003_mirror.sql"

GUARD = "tests/integration/test_guard.py::test_"
HELD = "tests/integration/test_held_deletions.py::test_"
DELETION = "tests/reconcile/test_deletion.py::test_"
REVIVAL = "tests/reconcile/test_revival.py::test_"
NO_MASS_DELETION = "tests/properties/test_no_mass_deletion.py::test_rows_that_are_gone_are_accounted_for"
GOLDEN = "tests/integration/test_privileges.py::test_the_golden_list_is_what_the_database_grants"
NO_OTHER_WAY = f"{GUARD}no_service_may_delete_or_decide_by_another_way"
SESSIONS = f"{GUARD}every_function_that_writes_refuses_a_session_with_other_settings"

FAULTS: tuple[Fault, ...] = (
    Fault(
        "the guard is off",
        "5 no mass deletion",
        ENTITIES,
        "  fits := p_more = 0 or deleted + p_more <= allowed;\n",
        "  fits := true;\n",
        (f"{DELETION}half_the_users_gone_parks_and_says_what_to_do", NO_MASS_DELETION),
        row="D2",
    ),
    Fault(
        "limits have no ceiling",
        "5 no mass deletion",
        ENTITIES,
        "case when live + deleted <= 4 then 1 else (live + deleted) / 4 end",
        "live + deleted",
        (f"{GUARD}no_limit_that_a_sync_sets_goes_beyond_a_quarter[8-2]", NO_MASS_DELETION),
        row="D2",
    ),
    Fault(
        "a kind of four rows may go at once",
        "5 no mass deletion",
        ENTITIES,
        "case when live + deleted <= 4 then 1 else",
        "case when live + deleted <= 4 then 4 else",
        (
            f"{HELD}an_hour_takes_the_guards_share_and_never_more_than_a_quarter[4-1]",
            f"{GUARD}no_limit_that_a_sync_sets_goes_beyond_a_quarter[4-1]",
            NO_MASS_DELETION,
        ),
        row="D2",
    ),
    Fault(
        "the database leaves the guard to the engine",
        "5 no mass deletion",
        REPAIR,
        "x where not x.fits loop",
        "x where false loop",
        (f"{GUARD}the_database_buries_no_more_than_the_guard_allows_and_writes_nothing_then", NO_MASS_DELETION),
        row="D2",
    ),
    Fault(
        "verified deletions are weighed without a lock",
        "5 no mass deletion",
        REPAIR,
        "    perform clerk_private.lock_guard(array[p_kind]);\n",
        "",
        (f"{GUARD}two_runs_beside_each_other_spend_one_share",),
        row="D2",
    ),
    Fault(
        "what is kept is the moment of the read",
        "5 no mass deletion",
        ENTITIES,
        "insert into clerk_private.deletions (kind, cause, number) values (p_kind, r.cause, v_number);",
        "insert into clerk_private.deletions (kind, cause, number, at) select p_kind, r.cause, v_number,"
        " clerk_private.ms(max(c.observed_at)) from unnest(p_changes) c;",
        (f"{DELETION}clerks_clock_decides_nothing_about_how_much_may_go",),
        row="D3",
    ),
    Fault(
        "the ledger is not written",
        "5 no mass deletion",
        ENTITIES,
        "    if r.cause is not null and v_number > 0 then\n",
        "    if false then\n",
        (
            f"{GUARD}the_database_buries_no_more_than_the_guard_allows_and_writes_nothing_then",
            f"{DELETION}the_guard_allows_its_floor_and_not_one_more",
            NO_MASS_DELETION,
        ),
        row="D3",
    ),
    Fault(
        "deletions by event are never held",
        "5 no mass deletion",
        INGEST,
        "      if v_over and v_verified then\n",
        "      if false then\n",
        (f"{HELD}an_hour_takes_the_guards_share_and_never_more_than_a_quarter[20-5]", NO_MASS_DELETION),
        row="D5",
    ),
    Fault(
        "deletions are held though nobody can verify them",
        "3 nothing acknowledged is lost",
        INGEST,
        "      if v_over and v_verified then\n",
        "      if v_over then\n",
        (
            f"{HELD}without_a_verifier_deletions_apply_and_are_counted",
            f"{HELD}a_verifier_that_was_not_seen_for_five_minutes_holds_nothing",
        ),
        row="D5",
    ),
    Fault(
        "batches spend a share each",
        "5 no mass deletion",
        INGEST,
        "  perform clerk_private.lock_guard(array(select distinct c.kind from unnest(p_changes) c where c.buried_by is not null));\n",
        "",
        (f"{GUARD}two_batches_beside_each_other_spend_one_share",),
        row="D5",
    ),
    Fault(
        "one read that finds the object refuses its deletion",
        "4 deletion wins",
        INGEST,
        "'refused', session_user::text, p_asked_at[i.ordinality])\n"
        "  from unnest(p_ids) with ordinality as i (id)\n"
        "  where p_there[i.ordinality] and exists (\n"
        "    select from clerk_private.held_deletions h where h.kind = p_kind and h.id = i.id and h.state = 'held'\n"
        "      and h.there_at < p_asked_at[i.ordinality] and h.not_before <= clock_timestamp())\n",
        "'refused', session_user::text)\n"
        "  from unnest(p_ids) with ordinality as i (id)\n"
        "  where p_there[i.ordinality]\n",
        (
            f"{HELD}two_reads_that_find_it_refuse_and_from_then_on_that_secret_deletes_nothing",
            f"{HELD}one_read_that_is_told_twice_does_not_refuse",
        ),
        row="D5",
    ),
    Fault(
        "a secret that told an untruth is believed",
        "5 no mass deletion",
        INGEST,
        "      select from clerk_private.distrusted_secrets s where s.secret = d.secret and s.cleared_at is null) then\n",
        "      select from clerk_private.distrusted_secrets s where false) then\n",
        (f"{HELD}two_reads_that_find_it_refuse_and_from_then_on_that_secret_deletes_nothing",),
        row="D5",
    ),
    Fault(
        "a replay applies what is held",
        "5 no mass deletion",
        INGEST,
        "  left join clerk_private.held_deletions h on h.svix_id = s.svix_id and h.state in ('held', 'refused');\n",
        "  left join clerk_private.held_deletions h on false;\n",
        (f"{GUARD}a_replay_applies_neither_what_is_held_nor_what_was_refused",),
        row="D5",
    ),
    Fault(
        "what is held is shown for as long as that takes",
        "row-level security",
        MIRROR,
        "   where h.state = 'held' and h.reason = 'share' and h.held_at < now() - interval '5 minutes' $$;",
        "   where false $$;",
        (f"{HELD}what_is_held_for_five_minutes_is_hidden_from_readers",),
        row="D5",
    ),
    Fault(
        "a revived parent's children wait for a sweep",
        "1 convergence",
        "nexus_auth/reconcile/settling.py",
        "        await read_children(context, item.id, revived=True)\n",
        "        pass\n",
        (f"{REVIVAL}children_come_back_with_their_parent_and_wait_for_nothing_more",),
        row="D5",
    ),
    Fault(
        "children weigh nothing",
        "5 no mass deletion",
        ENTITIES,
        "    from clerk_private.entity_parents p where p.parent_kind = p_kind;\nend $$;",
        "    from clerk_private.entity_parents p where false;\nend $$;",
        (f"{DELETION}what_goes_with_its_parents_weighs_too", f"{HELD}a_cascade_weighs_what_it_takes"),
        row="D6",
    ),
    Fault(
        "a large cascade is not in the ledger",
        "5 no mass deletion",
        ENTITIES,
        "    where p_outcomes[c.ordinality] = 'deleted' and c.kind = p_kind and b.since = now() order by c.id\n",
        "    where false\n",
        (f"{GUARD}a_cascade_too_large_for_one_transaction_is_in_the_ledger_when_it_begins_and_once",),
        row="D6",
    ),
    Fault(
        "writers accept any isolation level",
        "4 deletion wins",
        ENTITIES,
        "  if current_setting('transaction_isolation') <> 'read committed' then\n",
        "  if false then\n",
        (f"{SESSIONS}[transaction_isolation = 'repeatable read'-READ COMMITTED only]",),
        row="D9",
    ),
    Fault(
        "writers accept a commit that may be lost",
        "3 nothing acknowledged is lost",
        ENTITIES,
        "  if current_setting('synchronous_commit') not in ('on', 'remote_apply') then\n",
        "  if false then\n",
        (f"{SESSIONS}[synchronous_commit = off-synchronous_commit is off]",),
        row="D10",
    ),
    Fault(
        "what a human approved fills the guard",
        "5 no mass deletion",
        REPAIR,
        "clerk_private.share(w.kind, w.more, interval '24 hours', '{verification}', true)",
        "clerk_private.share(w.kind, w.more, interval '24 hours', '{verification,approval}', true)",
        (
            f"{DELETION}what_a_human_approved_does_not_fill_the_guard",
            f"{GUARD}an_approval_covers_its_ids_for_a_day_and_nothing_else",
        ),
        row="R11",
    ),
    Fault(
        "an approval covers whatever is asked",
        "5 no mass deletion",
        REPAIR,
        " where d.run_id = p_approved_run and d.kind = p_kind and d.id = i.id)) then",
        " where true)) then",
        (f"{GUARD}an_approval_covers_its_ids_for_a_day_and_nothing_else",),
    ),
    Fault(
        "an approval lasts for ever",
        "5 no mass deletion",
        REPAIR,
        " and r.state = 'parked' and r.approved_at > clock_timestamp() - interval '24 hours')",
        " and r.approved_at is not null)",
        (f"{GUARD}an_approval_covers_its_ids_for_a_day_and_nothing_else",),
    ),
    Fault(
        "the reconciler may delete from the mirror",
        "5 no mass deletion",
        ENTITIES,
        "    execute format('grant select on clerk.%I to clerk_reconciler, clerk_cli', v_table);\n",
        "    execute format('grant select, delete on clerk.%I to clerk_reconciler, clerk_cli', v_table);\n",
        (GOLDEN, NO_OTHER_WAY),
    ),
    Fault(
        "a repair may delete",
        "5 no mass deletion",
        REPAIR,
        "  if exists (select from unnest(p_changes) c where c.buried_by is not null) then\n",
        "  if false then\n",
        (f"{GUARD}what_repairs_revives_or_lowers_deletes_nothing",),
    ),
    Fault(
        "a row is removed without a tombstone",
        "5 no mass deletion",
        ENTITIES,
        "      select from clerk_private.objects o where o.kind = p_kind and o.id = i.id and o.deleted_at is not null)) then\n",
        "      select from unnest(p_ids))) then\n",
        (f"{GUARD}a_row_without_a_tombstone_is_not_removed",),
    ),
    Fault(
        "an update below a tombstone buries a row unweighed",
        "5 no mass deletion",
        ENTITIES,
        "when j.parent_deleted_at is not null and j.held then",
        "when false then",
        ("tests/integration/test_forged_events.py::test_rows_under_a_tombstone_stay_until_somebody_deletes_them",),
        row="D5",
    ),
    Fault(
        "an event moves a membership to another organization",
        "5 no mass deletion",
        ENTITIES,
        "              when j.moved then null\n",
        "",
        ("tests/integration/test_forged_events.py::test_an_event_moves_no_membership_elsewhere",),
        row="D5",
    ),
    Fault(
        "an event from the far future is believed",
        "5 no mass deletion",
        INGEST,
        "now() + interval '5 minutes') * 1000;",
        "now() + interval '200000 years') * 1000;",
        ("tests/integration/test_forged_events.py::test_an_event_from_the_far_future_is_no_newer_than_its_arrival",),
        row="D5",
    ),
    Fault(
        "forged ids are named to Clerk",
        "5 no mass deletion",
        "nexus_auth/reconcile/verification.py",
        "if all(map(_NAMEABLE.fullmatch, (i, *parents)))",
        "if i",
        ("tests/reconcile/test_forged.py::test_an_id_with_a_minus_does_not_hide_the_user_that_it_names",),
        row="D5",
    ),
)
