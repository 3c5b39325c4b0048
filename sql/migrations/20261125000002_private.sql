-- migrate:up
set local role clerk_owner;

-- One arbiter row per Clerk object. The tombstone is this row: a table of its own lets a concurrent update resurrect the object.
create sequence clerk_private.tombstones;
create table clerk_private.objects (
  kind text not null,
  id text not null,
  -- The version, compared as a row; no part may be NULL, or the comparison is and the event is lost.
  updated_at bigint not null,          -- Clerk's updated_at, ms; 0 for a tombstone
  observed_at bigint not null,         -- ms: the event's own timestamp, or the start of the API request
  source_rank smallint not null,       -- 0 webhook, 1 API
  svix_id text collate "C" not null,   -- '' for an API read
  deleted_at bigint,                   -- ms: when the deletion was observed; not null = tombstone
  buried_by text check (buried_by in ('event', 'parent', 'verification')),
  tombstone_seq bigint,                -- what a reviving read must still find unchanged
  revived_at bigint,                   -- ms: deletes observed up to then are stale
  raw jsonb,                           -- the object as last applied, secrets withheld; null once deleted
  digest bytea,                        -- sha256 of the projected, stable columns
  projection smallint,                 -- version of the projection that made them
  source text not null,                -- webhook, replay, sweep, approval, confirmed, release
  synced_at timestamptz not null default clock_timestamp(),
  primary key (kind, id),
  check ((deleted_at is null) = (buried_by is null)),
  check (deleted_at is null or raw is null)
) with (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02);
create index objects_tombstones on clerk_private.objects (kind, deleted_at) where deleted_at is not null;

-- Deduplication is small and whole (a partitioned table cannot be unique over midnight); bodies lie in partitions by day.
create table clerk_private.inbox_seen (
  svix_id text collate "C" primary key,
  received_at timestamptz not null default now()
);
create index inbox_seen_received on clerk_private.inbox_seen using brin (received_at);

create table clerk_private.inbox (
  received_at timestamptz not null default now(),
  svix_id text collate "C" not null,
  svix_timestamp text not null,        -- the headers exactly as received: with the body they can be verified again
  signature text not null,
  secret text not null,                -- fingerprint of the secret that verified them
  type text,
  instance_id text,
  observed_at bigint not null default 0,
  kind text,                           -- the object that the event is about, where a projection knows it
  object_id text,
  subjects text[] not null default '{}',  -- every id that the event speaks of
  state text not null check (state in ('applied', 'waiting', 'parked', 'kept', 'held')),
  outcome text,
  body bytea not null,                 -- the signed bytes; or, where body_hmac is set, the event with its secrets withheld
  body_hmac bytea,
  primary key (received_at, svix_id)
) partition by range (received_at);
create index inbox_unfinished on clerk_private.inbox (state, received_at) where state in ('waiting', 'parked', 'held');
create table clerk_private.inbox_default partition of clerk_private.inbox default;

create table clerk_private.parked (
  svix_id text collate "C" primary key,
  parked_at timestamptz not null default now(),
  error text not null,                 -- what is wrong; never a value out of the event
  attempts integer not null default 1,
  resolved_at timestamptz
);
create index parked_open on clerk_private.parked (parked_at) where resolved_at is null;

-- Deletions that one transaction could not finish: hidden from every reader until done.
create table clerk_private.burying (
  kind text not null,
  id text not null,
  reason text not null check (reason in ('cascade', 'foreign key')),
  constraint_name text,
  since timestamptz not null default now(),
  attempts integer not null default 0,
  primary key (kind, id, reason)
);

-- The Clerk instance that this database belongs to, and the mark that asks the reconciler for a sweep.
create table clerk_private.instance (
  singleton boolean primary key default true check (singleton),
  id text not null check (id like 'ins\_%'),
  claimed_at timestamptz not null default now(),
  claimed_by text not null default session_user,
  sweep_requested_at timestamptz
);

-- lz4 gives a third more events per second, where the server was built with it.
do $$
begin
  alter table clerk_private.objects alter column raw set compression lz4;
  alter table clerk_private.inbox alter column body set compression lz4;
  alter table clerk_private.inbox_default alter column body set compression lz4;
exception when feature_not_supported then
  null;
end $$;

-- What the mirror holds: one row per kind, written by clerk_private.define_entity(). `rank` is the order of locks: parents first.
create table clerk_private.entities (
  kind text primary key,
  table_name text not null unique,     -- in schema clerk
  rank smallint not null,
  projection smallint not null,        -- version of project_<kind>(): objects that an older one made are made anew
  details text,                        -- table of rows that are part of the object (a user's addresses), and whose id they carry
  details_owner text,
  one_per_parents boolean not null     -- Clerk has at most one object for each combination of parents
);
create table clerk_private.entity_parents (
  kind text not null references clerk_private.entities (kind),
  parent_kind text not null references clerk_private.entities (kind),
  column_name text not null,           -- of the child's typed table
  path text[] not null,                -- of the parent's id in the child's JSON
  position smallint not null,          -- in clerk_private.typed_rows.parents
  primary key (kind, parent_kind),
  unique (kind, position)
);

-- The deletion guard. Its limits come from the sync; hard ceilings stand in clerk_private.exceeds_share(). A transaction that
-- weighs deletions locks the rows of its kinds, so that two cannot spend the same share.
create table clerk_private.guard_limits (
  kind text primary key references clerk_private.entities (kind),
  floor integer not null default 10 check (floor >= 0),
  percent double precision not null default 1 check (percent between 0 and 100),
  set_at timestamptz not null default clock_timestamp()
);
-- Typed rows that went, by the database's clock. One row per transaction, kind and cause.
create table clerk_private.deletions (
  at timestamptz not null default clock_timestamp(),
  kind text not null,
  cause text not null check (cause in (
    'event',                           -- a signed event said so
    'confirmed',                       -- a held event that one absent read by name confirmed
    'release',                         -- a held event that a human released
    'verification',                    -- a sweep and two absent reads by name said so
    'approval')),                      -- a human approved it
  number bigint not null check (number > 0)
);
create index deletions_recent on clerk_private.deletions (kind, at);

-- Deletions that events speak of and that are not believed yet: the row stays, Clerk's API is asked by name.
create table clerk_private.held_deletions (
  svix_id text collate "C" primary key,
  received_at timestamptz not null,    -- with svix_id: the event's place in the inbox
  kind text not null,
  id text not null,
  secret text not null,                -- fingerprint of the secret that signed it
  observed_at bigint not null,
  reason text not null check (reason in (
    'share',                           -- beyond what an hour may bring
    'secret',                          -- under a secret whose deletions were refused before
    'replaced')),                      -- the event made another object in the place that only one can have
  held_at timestamptz not null default clock_timestamp(),
  state text not null default 'held' check (state in ('held', 'refused', 'confirmed', 'released')),
  there_at bigint,                     -- ms: when the first read that found the object began
  not_before timestamptz not null default clock_timestamp(),
  decided_at timestamptz,
  decided_by text
);
create index held_deletions_open on clerk_private.held_deletions (kind, id) where state = 'held';
create index held_deletions_due on clerk_private.held_deletions (not_before) where state = 'held';

-- Secrets whose deletions were refused: every further one is held until a human clears the secret.
create table clerk_private.distrusted_secrets (
  secret text primary key,
  since timestamptz not null default clock_timestamp(),
  cleared_at timestamptz,
  cleared_by text
);

-- When a process that can ask Clerk by name last said that it is there. Without one, nothing is held for its share: such deletions
-- are applied, and counted here.
create table clerk_private.verifier (
  singleton boolean primary key default true check (singleton),
  seen_at timestamptz,
  unverified bigint not null default 0
);

-- Chores that one process at a time does: who locks a chore's row does it.
create table clerk_private.chores (name text primary key);
insert into clerk_private.chores (name) values ('bury'), ('maintain');

-- Objects that Clerk lists and Postgres refuses: each with its reason, kept apart so that the rest of its page goes on.
create table clerk_private.refused_objects (
  kind text not null,
  id text not null,
  error text not null,                 -- what is wrong; never a value out of the object
  object text,                         -- as listed, secrets withheld
  run_id bigint,
  refused_at timestamptz not null default clock_timestamp(),
  attempts integer not null default 1,
  primary key (kind, id)
);

do $$
declare
  v_table text;
begin
  foreach v_table in array array['objects', 'inbox_seen', 'inbox', 'inbox_default', 'parked', 'burying', 'instance', 'entities',
    'entity_parents', 'guard_limits', 'chores', 'deletions', 'held_deletions', 'distrusted_secrets', 'verifier', 'refused_objects'] loop
    execute format('alter table clerk_private.%I enable row level security', v_table);
    -- What writes are functions that run as the definer, whoever calls them.
    execute format('create policy %I on clerk_private.%I for all to clerk_definer using (true) with check (true)', v_table || '_definer', v_table);
    execute format('grant select, insert, update, delete on clerk_private.%I to clerk_definer', v_table);
  end loop;
end $$;
grant usage on sequence clerk_private.tombstones to clerk_definer;

-- What a writer locks of an object's parent: the table of its id's bucket (lock_parents). Tables, because nobody without rights in
-- this schema can lock one; any session could hold an advisory lock for ever (docs/decisions/010).
do $$
begin
  for i in 0..63 loop
    execute format('create table clerk_private.bucket_%s ()', i);
    execute format('alter table clerk_private.bucket_%s enable row level security', i);
    execute format('grant update on clerk_private.bucket_%s to clerk_definer', i);
  end loop;
end $$;

create policy objects_read on clerk_private.objects for select to clerk_reconciler, clerk_cli using (true);
create policy burying_read on clerk_private.burying for select to clerk_writer using (true);
create policy entities_read on clerk_private.entities for select to clerk_writer using (true);
create policy entity_parents_read on clerk_private.entity_parents for select to clerk_writer using (true);
create policy guard_limits_read on clerk_private.guard_limits for select to clerk_reconciler, clerk_cli using (true);
create policy deletions_read on clerk_private.deletions for select to clerk_reconciler, clerk_cli using (true);
create policy held_deletions_read on clerk_private.held_deletions for select to clerk_reconciler, clerk_cli using (true);
create policy distrusted_secrets_read on clerk_private.distrusted_secrets for select to clerk_reconciler, clerk_cli using (true);
create policy verifier_read on clerk_private.verifier for select to clerk_writer using (true);
create policy refused_objects_write on clerk_private.refused_objects for all to clerk_reconciler using (true) with check (true);
create policy refused_objects_read on clerk_private.refused_objects for select to clerk_cli using (true);
create policy inbox_seen_read on clerk_private.inbox_seen for select to clerk_cli using (true);
create policy inbox_replay on clerk_private.inbox for all to clerk_cli using (true) with check (true);
create policy parked_write on clerk_private.parked for all to clerk_cli using (true) with check (true);
create policy instance_write on clerk_private.instance for all to clerk_writer using (true) with check (true);

grant select on clerk_private.burying to clerk_writer;
grant select on clerk_private.objects, clerk_private.guard_limits, clerk_private.deletions,
  clerk_private.held_deletions, clerk_private.distrusted_secrets to clerk_reconciler, clerk_cli;
grant select on clerk_private.entities, clerk_private.entity_parents, clerk_private.verifier to clerk_writer;
grant select, insert, update, delete on clerk_private.refused_objects to clerk_reconciler;
grant select on clerk_private.refused_objects to clerk_cli;
grant select on clerk_private.inbox_seen to clerk_cli;
grant select, update (state, outcome) on clerk_private.inbox to clerk_cli;
grant select, insert, update on clerk_private.parked to clerk_cli;
grant select on clerk_private.instance to clerk_writer;
grant insert (id), update (sweep_requested_at) on clerk_private.instance to clerk_webhook, clerk_reconciler;
grant insert (id), update on clerk_private.instance to clerk_cli;

-- Insert or compare: answers the instance that holds the database, which is p_id where it was free.
create function clerk_private.claim_instance(p_id text) returns text language plpgsql set search_path = '' as $$
begin
  insert into clerk_private.instance (id) values (p_id) on conflict do nothing;
  return (select i.id from clerk_private.instance i);
end $$;
grant execute on function clerk_private.claim_instance(text) to clerk_writer;
reset role;

-- migrate:down
set local role clerk_owner;
drop function clerk_private.claim_instance(text);
do $$
begin
  for i in 0..63 loop
    execute format('drop table clerk_private.bucket_%s', i);
  end loop;
end $$;
drop table clerk_private.chores, clerk_private.refused_objects, clerk_private.verifier, clerk_private.distrusted_secrets, clerk_private.held_deletions,
  clerk_private.deletions, clerk_private.guard_limits, clerk_private.entity_parents, clerk_private.entities,
  clerk_private.instance, clerk_private.burying, clerk_private.parked, clerk_private.inbox, clerk_private.inbox_seen,
  clerk_private.objects;
drop sequence clerk_private.tombstones;
reset role;
