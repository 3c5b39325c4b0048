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
  source text not null,                -- webhook, replay, sweep, verification
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
  state text not null check (state in ('applied', 'waiting', 'parked', 'kept')),
  outcome text,
  body bytea not null,                 -- the signed bytes; or, where body_hmac is set, the event with its secrets withheld
  body_hmac bytea,
  primary key (received_at, svix_id)
) partition by range (received_at);
create index inbox_unfinished on clerk_private.inbox (state, received_at) where state in ('waiting', 'parked');
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

alter table clerk_private.objects enable row level security;
alter table clerk_private.inbox_seen enable row level security;
alter table clerk_private.inbox enable row level security;
alter table clerk_private.inbox_default enable row level security;
alter table clerk_private.parked enable row level security;
alter table clerk_private.burying enable row level security;
alter table clerk_private.instance enable row level security;

create policy objects_write on clerk_private.objects for all to clerk_writer using (true) with check (true);
create policy burying_write on clerk_private.burying for all to clerk_writer using (true) with check (true);
create policy burying_read on clerk_private.burying for select to clerk_definer using (true);
create policy inbox_seen_write on clerk_private.inbox_seen for all to clerk_webhook using (true) with check (true);
create policy inbox_seen_read on clerk_private.inbox_seen for select to clerk_cli using (true);
create policy inbox_write on clerk_private.inbox for insert to clerk_webhook with check (true);
create policy inbox_replay on clerk_private.inbox for all to clerk_cli using (true) with check (true);
create policy parked_write on clerk_private.parked for all to clerk_webhook, clerk_cli using (true) with check (true);
create policy instance_write on clerk_private.instance for all to clerk_writer using (true) with check (true);

grant select, insert, update on clerk_private.objects to clerk_writer;
grant usage on sequence clerk_private.tombstones to clerk_writer;
grant select, insert, update, delete on clerk_private.burying to clerk_writer;
grant select on clerk_private.burying to clerk_definer;
grant insert, select on clerk_private.inbox_seen to clerk_webhook;
grant select on clerk_private.inbox_seen to clerk_cli;
grant insert on clerk_private.inbox to clerk_webhook;
grant select, update (state, outcome) on clerk_private.inbox to clerk_cli;
grant insert on clerk_private.parked to clerk_webhook;
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
drop table clerk_private.instance, clerk_private.burying, clerk_private.parked, clerk_private.inbox,
  clerk_private.inbox_seen, clerk_private.objects;
drop sequence clerk_private.tombstones;
reset role;
