"""The list's first part: what engine, webhook and database promise; what is broken, where, and which test says so."""

from devtools.mutants.fault import Fault

ROLES = "sql/migrations/20261125000001_roles_and_schemas.sql"
MIRROR = "sql/migrations/20261125000003_mirror.sql"
ENTITIES = "sql/migrations/20261125000004_entities.sql"
INGEST = "sql/migrations/20261125000005_ingest.sql"
REPAIR = "sql/migrations/20261125000007_repair.sql"

VERSIONS = "tests/integration/test_versions.py::test_"
PARENTS = "tests/integration/test_parents.py::test_"
RLS = "tests/integration/test_rls.py::test_"
KEYS = "tests/integration/test_foreign_keys.py::test_"
RACES = "tests/chaos/test_races.py::test_"
KILLS = "tests/chaos/test_kills.py::test_"
REPLAY = "tests/properties/test_replay_is_harmless.py::test_"
WITHHELD = "tests/integration/test_webhook_secrets_withheld.py::test_"
START = "tests/integration/test_webhook_startup.py::test_"
VERIFICATION = "tests/integration/test_webhook_verification.py::test_"
ANSWERS = "tests/integration/test_webhook_answers.py::test_"
DEADLINES = "tests/integration/test_webhook_deadlines.py::test_"
HTTP = "tests/integration/test_webhook_http.py::test_"
MAINTENANCE = "tests/integration/test_maintenance.py::test_"
WALK = "tests/reconcile/test_walk.py::test_"
DELETION = "tests/reconcile/test_deletion.py::test_"
REVIVAL = "tests/reconcile/test_revival.py::test_"
FENCE = "tests/reconcile/test_fence.py::test_"
BUDGET = "tests/reconcile/test_budget.py::test_"

FAULTS: tuple[Fault, ...] = (
    Fault(
        "an equal version does not win",
        "6 replay",
        ENTITIES,
        "            >= (o.updated_at, o.observed_at, o.source_rank, o.svix_id)",
        "            > (o.updated_at, o.observed_at, o.source_rank, o.svix_id)",
        (f"{REPLAY}replay_puts_back_what_was_edited_by_hand",),
    ),
    Fault(
        "the version is not advanced where the row stays as it is",
        "2 order independence",
        ENTITIES,
        "      else o.deleted_at is null\n        and (excluded.updated_at,",
        "      else o.deleted_at is null and excluded.raw - 'updated_at' is distinct from o.raw - 'updated_at'\n"
        "        and (excluded.updated_at,",
        (f"{VERSIONS}a_state_that_comes_back_to_what_it_was_wins_in_every_order",),
    ),
    Fault(
        "the tombstone guard is dropped",
        "4 deletion wins",
        ENTITIES,
        """      deleted_at = greatest(excluded.deleted_at, o.deleted_at),
      buried_by = case when o.buried_by = 'event' then o.buried_by else excluded.buried_by end,
      tombstone_seq = coalesce(o.tombstone_seq, excluded.tombstone_seq),
      raw = excluded.raw,
      digest = excluded.digest,
      projection = excluded.projection,
      source = excluded.source,
      synced_at = clock_timestamp()
    where case
      when excluded.deleted_at is not null then excluded.deleted_at > coalesce(o.revived_at, -1)
      else o.deleted_at is null
        and (""",
        """      deleted_at = excluded.deleted_at,
      buried_by = excluded.buried_by,
      tombstone_seq = excluded.tombstone_seq,
      raw = excluded.raw,
      digest = excluded.digest,
      projection = excluded.projection,
      source = excluded.source,
      synced_at = clock_timestamp()
    where case
      when excluded.deleted_at is not null then excluded.deleted_at > coalesce(o.revived_at, -1)
      else (""",
        (f"{VERSIONS}a_deletion_wins_over_every_version_in_every_order",),
    ),
    Fault(
        "the svix-id does not break a tie",
        "2 order independence",
        ENTITIES,
        "excluded.source_rank, excluded.svix_id)\n            >= (o.updated_at, o.observed_at, o.source_rank, o.svix_id)",
        "excluded.source_rank)\n            >= (o.updated_at, o.observed_at, o.source_rank)",
        (f"{VERSIONS}the_svix_id_breaks_the_last_tie_in_both_orders",),
    ),
    Fault(
        "parents are checked in the statement that waits for their lock",
        "4 deletion wins",
        ENTITIES,
        "            from completed c\n          )\n          select array_agg(case\n",
        "            from completed c cross join lateral (select clerk_private.lock_parents(p_changes)) l\n          )\n"
        "          select array_agg(case\n",
        (f"{RACES}every_interleaving_ends_as_the_model_says",),
    ),
    Fault(
        "typed rows are deleted in the statement that decides",
        "4 deletion wins",
        ENTITIES,
        """      v_verdicts := clerk_private.arbitrate('{kind}', v_changes, v_digests, {projection}::smallint);

      -- Statements of their own: this one's snapshot must see the row that a writer before us committed while we waited for it.
      if 'deleted' = any (v_verdicts) then
        perform clerk_private.remove_deleted('{kind}', v_changes, v_verdicts);
      end if;
""",
        """      with decided as materialized (
        select clerk_private.arbitrate('{kind}', v_changes, v_digests, {projection}::smallint) as verdicts
      ), gone as (
        delete from clerk.{table} t using decided d where t.id in (
          select c.id from unnest(v_changes) with ordinality as c where d.verdicts[c.ordinality] = 'deleted')
      )
      select d.verdicts into v_verdicts from decided d;
""",
        (f"{RACES}every_interleaving_ends_as_the_model_says",),
    ),
    Fault(
        "children are not buried with their parents",
        "4 deletion wins",
        ENTITIES,
        "    if 'deleted' = any (v_part) and exists (",
        "    if false and exists (",
        (f"{PARENTS}a_deletion_buries_the_memberships_in_every_order",),
    ),
    Fault(
        "what comes after its parent's deletion lives",
        "4 deletion wins",
        ENTITIES,
        "              when j.parent_deleted_at is not null then",
        "              when false then",
        (f"{PARENTS}one_that_comes_after_its_parents_deletion_is_buried",),
    ),
    Fault(
        "duplicates stay in a batch",
        "3 nothing acknowledged is lost",
        INGEST,
        "f.svix_id is not null and row_number() over (partition by d.svix_id order by d.ordinality) = 1 as fresh",
        "f.svix_id is not null as fresh",
        (f"{VERSIONS}duplicates_of_one_delivery_are_seen_within_a_batch_and_across_batches",),
    ),
    Fault(
        "acknowledged before the commit",
        "3 nothing acknowledged is lost",
        "nexus_auth/store/ingest.py",
        '        await self._failpoint("ingest.gathered")\n        try:',
        "        for waiting in batch:\n"
        '            waiting.done("created")\n'
        '        await self._failpoint("ingest.gathered")\n        try:',
        (f"{KILLS}a_killed_service_loses_nothing_that_it_acknowledged",),
    ),
    Fault(
        "a plain hash stands for a withheld body",
        "secrets",
        "services/webhook/app.py",
        'hmac.digest(self._withhold_key, body, "sha256")',
        '__import__("hashlib").sha256(body).digest()',
        (f"{WITHHELD}a_withheld_body_leaves_no_plain_hash",),
    ),
    Fault(
        "messages are kept whole",
        "secrets",
        "nexus_auth/clerk/privacy.py",
        "return {name: member if name in MESSAGE_MEMBERS else WITHHELD for name, member in value.items()}",
        "return value",
        (f"{WITHHELD}planted_secrets_are_found_nowhere",),
    ),
    Fault(
        "a service has the owner's rights",
        "least privilege",
        ROLES,
        "grant clerk_writer to clerk_webhook, clerk_reconciler, clerk_cli;",
        "grant clerk_writer to clerk_webhook, clerk_reconciler, clerk_cli; grant clerk_owner to clerk_webhook;",
        ("tests/integration/test_privileges.py::test_the_golden_list_is_what_the_database_grants",),
    ),
    Fault(
        "the service does not ask what its login may do",
        "least privilege",
        "services/webhook/__main__.py",
        "        await refuse_unsafe(",
        "        await (lambda *a, **k: __import__('asyncio').sleep(0))(",
        (f"{START}a_superuser_is_refused",),
    ),
    Fault(
        "a user sees everybody",
        "row-level security",
        MIRROR,
        "create policy users_read on clerk.users for select to authenticated using (\n  id = (select clerk.current_user_id())",
        "create policy users_read on clerk.users for select to authenticated using (\n  true",
        (f"{RLS}a_user_sees_their_row_their_organizations_and_the_members_of_these",),
    ),
    Fault(
        "what waits for its end is shown",
        "row-level security",
        MIRROR,
        "$$ select b.id from clerk_private.burying b\n",
        "$$ select b.id from clerk_private.burying b where false\n",
        (f"{RLS}what_is_being_buried_is_hidden_from_users_and_backends",),
    ),
    Fault(
        "a stale message is accepted",
        "verification",
        "services/webhook/verification.py",
        "TOLERANCE = 300\n",
        "TOLERANCE = 300_000\n",
        (f"{VERIFICATION}several_genuine_events_that_are_stale_say_that_a_clock_is_off_and_one_sent_again_does_not",),
    ),
    Fault(
        "events of another instance are applied",
        "instance guard",
        "services/webhook/app.py",
        "if event.instance_id is not None and event.instance_id != gate.instance_id:",
        "if False:",
        (f"{ANSWERS}an_event_of_another_instance_is_refused_loudly",),
    ),
    Fault(
        "a delivery has no deadline of its own",
        "answers in time",
        "services/webhook/app.py",
        "async with asyncio.timeout_at(deadline):",
        "async with asyncio.timeout_at(None):",
        (f"{DEADLINES}behind_a_table_lock_everybody_hears_a_503_within_twelve_seconds_and_the_log_says_who_holds_it",),
        row="R15",
    ),
    Fault(
        "a line is written as often as a stranger likes",
        "answers in time",
        "nexus_auth/telemetry/logs.py",
        "    handler.addFilter(RepeatLimit())\n",
        "",
        (f"{DEADLINES}thousands_of_refused_events_are_ten_lines",),
        row="R17",
    ),
    Fault(
        "when the memory of bodies is full, who comes last is refused",
        "answers in time",
        "services/webhook/bodies.py",
        "self._give_up(next(iter(self._readings)))",
        "self._give_up(reading)",
        (f"{HTTP}connections_that_fill_the_body_memory_slowly_cut_off_themselves_and_no_genuine_event",),
        row="S7",
    ),
    Fault(
        "a session's latest activity is kept",
        "secrets",
        "nexus_auth/clerk/privacy.py",
        "    names = WITHHELD_EVERYWHERE | links | (frozenset() if keep_personal else PERSONAL)\n",
        "    names, keep_personal = WITHHELD_EVERYWHERE | links, True\n",
        (f"{WITHHELD}where_a_session_was_used_is_dropped_unless_configured",),
        row="S3",
    ),
    Fault(
        "maintenance lets writers in while it moves rows",
        "3 nothing acknowledged is lost",
        INGEST,
        "lock table only clerk_private.inbox in share row exclusive mode;",
        "perform 1;",
        (f"{MAINTENANCE}a_writer_that_waits_for_the_default_partition_finds_its_row_in_the_new_one",),
    ),
    Fault(
        "a short page ends the walk",
        "5 no mass deletion",
        "nexus_auth/reconcile/walk.py",
        "            short = not full\n            yield self._took(fresh)\n",
        "            short = not full\n            yield self._took(fresh)\n            if short:\n                return\n",
        (f"{WALK}a_short_page_that_rows_follow_makes_the_walk_incomplete",),
    ),
    Fault(
        "ties are not carried over",
        "1 convergence",
        "nexus_auth/reconcile/walk.py",
        "        return await self._by_time(self._newest.created_at)\n",
        "        return await self._by_time(self._newest.created_at + 1)\n",
        (f"{WALK}every_user_is_found_however_bounds_are_meant[False-False-False]",),
    ),
    Fault(
        "the limit is left to Clerk",
        "1 convergence",
        "nexus_auth/reconcile/walk.py",
        '[("limit", str(PAGE)), ("order_by", "+created_at"), *params]',
        '[("order_by", "+created_at"), *params]',
        (f"{WALK}pages_may_end_anywhere[501]",),
    ),
    Fault(
        "a page that is full of others ends the window",
        "1 convergence",
        "nexus_auth/reconcile/walk.py",
        "            if full and not fresh:\n",
        "            if full and not fresh and self._newest is not None:\n",
        (f"{WALK}a_window_may_begin_behind_a_moment_that_fills_a_page",),
    ),
    Fault(
        "a revival does not look at the tombstone's sequence",
        "4 deletion wins",
        REPAIR,
        " and o.tombstone_seq = p_tombstone_seq\n",
        "\n",
        (f"{REVIVAL}a_tombstone_made_anew_between_two_reads_is_not_revived",),
    ),
    Fault(
        "the fence does not look at the epoch",
        "fence",
        REPAIR,
        "where r.id = p_run and r.epoch = p_epoch and r.state = 'running' for share",
        "where r.id = p_run and r.state = 'running' for share",
        (
            f"{FENCE}a_second_leader_fences_the_first",
            f"{FENCE}an_engine_that_was_taken_over_raises_fenced_and_writes_nothing[sweep.repaired]",
        ),
    ),
    Fault(
        "retries are not counted",
        "7 budget",
        "nexus_auth/reconcile/requester.py",
        "            await self._budget.take()\n",
        "            if attempt == 1:\n                await self._budget.take()\n",
        (f"{BUDGET}a_retry_takes_from_the_budget_like_any_request",),
    ),
    Fault(
        "the HTTP client repeats by itself",
        "7 budget",
        "nexus_auth/clerk/api.py",
        "            self._session._retry_connection = False\n",
        "            self._session._retry_connection = True\n",
        (f"{BUDGET}a_kept_connection_that_breaks_costs_one_request_and_not_two",),
    ),
)
