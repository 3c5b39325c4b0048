-- migrate:up
-- What a reconciler remembers: runs with their fence, findings, deletions that wait for a human, reads that wait for their time,
-- the budget of requests, watermarks and counts. What touches the mirror are functions, in the next file.
set local role clerk_owner;

create sequence clerk_private.sweeps;

-- One run of one kind. Runs of one sweep share sweep_id. The epoch is the fence: whoever takes a run over raises it, and every
-- writing transaction of the former holder, on whatever connection, finds another one on this row.
create table clerk_private.runs (
  id bigint generated always as identity primary key,
  sweep_id bigint not null,
  sync text not null,
  kind text not null,
  mode text not null check (mode in ('incremental', 'full', 'deep')),
  policy text not null check (policy in ('Report', 'Fix')),
  epoch bigint not null default 1,
  holder text not null,
  state text not null default 'running' check (state in ('running', 'completed', 'parked', 'superseded', 'failed', 'aborted')),
  message text,                        -- what to do, or what is still to come
  error text,                          -- type of the exception that ended it
  started_at timestamptz not null default now(),
  alive_at timestamptz not null default now(),
  finished_at timestamptz,
  listed boolean not null default false,  -- its walk saw everything that Clerk lists of the kind
  progress jsonb not null default '{}',  -- what a successor goes on from: finished windows
  counts jsonb not null default '{}',    -- seen, missing, stale, extra, edited, repaired, tombstoned, revived
  requests bigint not null default 0,
  parked_digest bytea,                 -- of the parked ids: an approval covers exactly these
  waits_for bigint,                    -- the run whose approval it waits for: itself, or an earlier one that parked the same ids
  superseded_by bigint,                -- the later run of its kind that found other ids, or none
  approved_by text,
  approved_at timestamptz
);
create unique index runs_one_running on clerk_private.runs (sync, kind) where state = 'running';
create unique index runs_one_waiting on clerk_private.runs (sync, kind) where state = 'parked' and parked_digest is not null;
create index runs_latest on clerk_private.runs (sync, kind, id desc);
create index runs_sweeps on clerk_private.runs (sync, kind, id desc) where mode <> 'incremental';
create index runs_ended on clerk_private.runs (finished_at);

-- Every difference that a run found, and why.
create table clerk_private.findings (
  run_id bigint not null references clerk_private.runs (id) on delete cascade,
  kind text not null,
  id text not null,
  problem text not null check (problem in (
    'missing', 'stale', 'extra', 'edited', 'deep', 'projection', 'resurfaced', 'ahead', 'unadopted', 'refused')),
  action text not null default 'reported' check (action in (
    'reported', 'repaired', 'adopted', 'awaiting second read', 'tombstoned', 'queued', 'parked', 'refuted', 'revived', 'lowered',
    'unchanged', 'refused', 'settled')),
  cause text check (cause in ('never received', 'received late', 'parked', 'edited by hand', 'mapper changed', 'unknown')),
  expected_at bigint,                  -- updated_at as Clerk has it, ms
  found_at timestamptz not null default now(),
  primary key (run_id, kind, id)
);
create index findings_by_object on clerk_private.findings (kind, id);

-- Ids that Clerk does not know by name, of a run that waits for its approval.
create table clerk_private.parked_deletions (
  run_id bigint not null references clerk_private.runs (id) on delete cascade,
  kind text not null,
  id text not null,
  primary key (run_id, kind, id)
);

-- Reads by name that may bury an object, bring it back to life or lower its version: two of them, apart, and agreeing.
create table clerk_private.verify_queue (
  kind text not null,
  id text not null,
  purpose text not null check (purpose in ('revive', 'lower', 'bury')),
  tombstone_seq bigint,                -- read before the first question; the object must still have it at the end
  parents text[] not null default '{}',  -- of an object that is asked for through them, in the order of its declaration
  not_before timestamptz not null,
  answers integer not null default 0,  -- reads that agreed so far
  answer_at bigint,                    -- updated_at of the first answer, ms
  queued_at timestamptz not null default now(),
  primary key (kind, id)
);
create index verify_queue_due on clerk_private.verify_queue (kind, not_before);

-- Requests that may be made, for all processes of all replicas.
create table clerk_private.budget (
  instance_id text primary key,
  per_second double precision not null check (per_second > 0),
  burst double precision not null check (burst >= 1),
  tokens double precision not null,
  refilled_at timestamptz not null default clock_timestamp(),
  paused_until timestamptz
);

-- How far the incremental sweep has seen, by Clerk's own clock.
create table clerk_private.watermarks (
  sync text not null,
  kind text not null,
  updated_at bigint not null,
  primary key (sync, kind)
);

-- Clerk's counts beside ours. A difference stands where two checks, far enough apart, saw one of the same sign and no event came
-- between them: what was on its way has arrived by then. One that a full sweep left is not swept for again until it changes.
create table clerk_private.count_checks (
  sync text not null,
  kind text not null,
  difference bigint not null,          -- Clerk's count minus ours, what is parked taken for done
  left_standing bigint,                -- the difference that the last full sweep of the kind could not mend
  first_seen_at timestamptz not null default now(),  -- since when there is more, or less, than that, with no event between
  stands boolean not null default false,
  checked_at timestamptz not null default now(),
  inbox_mark timestamptz,              -- the newest event at that time
  primary key (sync, kind)
);

alter table clerk_private.runs enable row level security;
alter table clerk_private.findings enable row level security;
alter table clerk_private.parked_deletions enable row level security;
alter table clerk_private.verify_queue enable row level security;
alter table clerk_private.budget enable row level security;
alter table clerk_private.watermarks enable row level security;
alter table clerk_private.count_checks enable row level security;

create policy runs_write on clerk_private.runs for all to clerk_reconciler using (true) with check (true);
create policy findings_write on clerk_private.findings for all to clerk_reconciler using (true) with check (true);
create policy parked_deletions_write on clerk_private.parked_deletions for all to clerk_reconciler using (true) with check (true);
create policy verify_queue_write on clerk_private.verify_queue for all to clerk_reconciler using (true) with check (true);
create policy budget_write on clerk_private.budget for all to clerk_reconciler using (true) with check (true);
create policy watermarks_write on clerk_private.watermarks for all to clerk_reconciler using (true) with check (true);
create policy count_checks_write on clerk_private.count_checks for all to clerk_reconciler using (true) with check (true);
create policy runs_read on clerk_private.runs for select to clerk_cli using (true);
create policy runs_approve on clerk_private.runs for update to clerk_cli using (true) with check (true);
create policy findings_read on clerk_private.findings for select to clerk_cli using (true);
create policy parked_deletions_read on clerk_private.parked_deletions for select to clerk_cli using (true);
create policy verify_queue_read on clerk_private.verify_queue for select to clerk_cli using (true);
create policy budget_read on clerk_private.budget for select to clerk_cli using (true);
create policy watermarks_read on clerk_private.watermarks for select to clerk_cli using (true);
create policy count_checks_read on clerk_private.count_checks for select to clerk_cli using (true);
-- The fence and the approval are looked at by functions that run as the definer; FOR SHARE takes the right to update.
create policy runs_definer on clerk_private.runs for all to clerk_definer using (true) with check (true);
create policy parked_deletions_definer on clerk_private.parked_deletions for select to clerk_definer using (true);
grant select, update on clerk_private.runs to clerk_definer;
grant select on clerk_private.parked_deletions to clerk_definer;
-- Attribution asks which events of an object came, and when; never what was in them.
create policy inbox_attribution on clerk_private.inbox for select to clerk_reconciler using (true);
create policy inbox_seen_last on clerk_private.inbox_seen for select to clerk_reconciler using (true);
create policy parked_count on clerk_private.parked for select to clerk_reconciler using (true);

grant select, insert, update, delete on clerk_private.runs, clerk_private.findings, clerk_private.parked_deletions,
  clerk_private.verify_queue, clerk_private.budget, clerk_private.watermarks, clerk_private.count_checks to clerk_reconciler;
grant select on clerk_private.runs, clerk_private.findings, clerk_private.parked_deletions, clerk_private.verify_queue,
  clerk_private.budget, clerk_private.watermarks, clerk_private.count_checks to clerk_cli;
grant update (approved_by, approved_at) on clerk_private.runs to clerk_cli;
grant usage on sequence clerk_private.sweeps to clerk_reconciler;
grant select (received_at, svix_id, type, observed_at, kind, object_id, subjects, state, outcome) on clerk_private.inbox to clerk_reconciler;
grant select (svix_id, received_at) on clerk_private.inbox_seen to clerk_reconciler;
grant select (svix_id, parked_at, resolved_at) on clerk_private.parked to clerk_reconciler;
grant update (sweep_requested_at) on clerk_private.instance to clerk_reconciler;
reset role;

-- migrate:down
set local role clerk_owner;
revoke select on clerk_private.inbox, clerk_private.inbox_seen, clerk_private.parked from clerk_reconciler;
drop policy inbox_attribution on clerk_private.inbox;
drop policy inbox_seen_last on clerk_private.inbox_seen;
drop policy parked_count on clerk_private.parked;
drop table clerk_private.count_checks, clerk_private.watermarks, clerk_private.budget, clerk_private.verify_queue, clerk_private.parked_deletions,
  clerk_private.findings, clerk_private.runs;
drop sequence clerk_private.sweeps;
reset role;
