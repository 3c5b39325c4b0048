begin;
set local role clerk_owner;

create type clerk_private.delivery as (
  svix_id text collate "C",
  svix_timestamp text,
  signature text,
  secret text,
  type text,
  instance_id text,
  observed_at bigint,
  kind text,
  object_id text,
  subjects text[],
  state text,                 -- applied: there is a change to apply; else waiting, parked, kept
  error text,                 -- of a parked one
  body bytea,
  body_hmac bytea
);

-- One batch of deliveries, each with its change or null, in one transaction; answers what became of each, "seen" for those
-- that came before (in an earlier batch, in this one, or in one that committed while we waited).
create function clerk_private.ingest(p_deliveries clerk_private.delivery[], p_changes clerk_private.change[]) returns text[]
language plpgsql set search_path = '' as $$
declare
  v_new text[];
  v_fresh boolean[];
  v_changes clerk_private.change[];
  v_outcomes text[];
begin
  perform clerk_private.lock_parents(p_changes);

  with fresh as (
    insert into clerk_private.inbox_seen (svix_id)
    select distinct d.svix_id from unnest(p_deliveries) d order by d.svix_id
    on conflict do nothing
    returning svix_id
  )
  select array_agg(f.svix_id) into v_new from fresh f;

  select array_agg(d.svix_id = any (v_new) and d.first order by d.n),
    array_agg(case when d.svix_id = any (v_new) and d.first then p_changes[d.n] end order by d.n)
  into v_fresh, v_changes
  from (
    select d.svix_id, d.n, row_number() over (partition by d.svix_id order by d.n) = 1 as first
    from (select x.svix_id, row_number() over () as n from unnest(p_deliveries) x) d) d;

  if v_new is not null then
    v_outcomes := clerk_private.apply(v_changes);

    insert into clerk_private.inbox (svix_id, svix_timestamp, signature, secret, type, instance_id, observed_at, kind, object_id,
      subjects, state, outcome, body, body_hmac)
    select d.svix_id, d.svix_timestamp, d.signature, d.secret, d.type, d.instance_id, d.observed_at, d.kind, d.object_id,
      coalesce(d.subjects, '{}'), case when v_outcomes[d.n] = 'incomplete' then 'parked' else d.state end, v_outcomes[d.n],
      d.body, d.body_hmac
    from unnest(p_deliveries) with ordinality
      as d (svix_id, svix_timestamp, signature, secret, type, instance_id, observed_at, kind, object_id, subjects, state, error,
            body, body_hmac, n)
    where v_fresh[d.n];

    if 'incomplete' = any (v_outcomes) or exists (select from unnest(p_deliveries) d where d.state = 'parked') then
      insert into clerk_private.parked (svix_id, error)
      select d.svix_id, coalesce(d.error, 'names no user or no organization, and we hold no such membership')
      from unnest(p_deliveries) with ordinality
        as d (svix_id, svix_timestamp, signature, secret, type, instance_id, observed_at, kind, object_id, subjects, state, error,
              body, body_hmac, n)
      where v_fresh[d.n] and (d.state = 'parked' or v_outcomes[d.n] = 'incomplete')
      on conflict do nothing;
    end if;
  end if;

  return (
    select array_agg(case when not coalesce(f.fresh, false) then 'seen'
                          when (p_deliveries[f.n]).state = 'applied' then v_outcomes[f.n]
                          else (p_deliveries[f.n]).state end order by f.n)
    from unnest(v_fresh) with ordinality as f (fresh, n));
end $$;

-- Applies stored events again, with the version that each had, and writes down what came of it. Harmless, however often.
create function clerk_private.replay(p_svix_ids text[], p_received timestamptz[], p_changes clerk_private.change[]) returns text[]
language plpgsql set search_path = '' as $$
declare
  v_outcomes text[];
begin
  perform clerk_private.lock_parents(p_changes);
  v_outcomes := clerk_private.apply(p_changes);

  update clerk_private.inbox i set state = case when r.outcome = 'incomplete' then 'parked' else 'applied' end, outcome = r.outcome
  from (
    select s.svix_id, p_received[s.n] as received_at, v_outcomes[s.n] as outcome
    from unnest(p_svix_ids) with ordinality as s (svix_id, n)
    order by s.svix_id collate "C") r
  where i.received_at = r.received_at and i.svix_id = r.svix_id and (i.state <> 'applied' or r.outcome = 'incomplete');

  update clerk_private.parked p set attempts = p.attempts + 1,
    resolved_at = case when r.outcome = 'incomplete' then null else coalesce(p.resolved_at, now()) end
  from (select s.svix_id, v_outcomes[s.n] as outcome from unnest(p_svix_ids) with ordinality as s (svix_id, n)) r
  where p.svix_id = r.svix_id and p.resolved_at is null;
  return v_outcomes;
end $$;

-- Makes the partitions of today and the days ahead, drops those past keeping, forgets old ids. Any service may call it, at any
-- time: who comes second leaves at once. Definer, because partitions belong to the owner.
create function clerk_private.maintain(
  p_ahead integer default 7, p_keep interval default '14 days', p_keep_seen interval default '100 days', p_batch integer default 10000)
returns table (created integer, moved bigint, dropped integer, overdue integer, forgotten bigint)
language plpgsql security definer set search_path = '' set lock_timeout = '1s' set timezone = 'UTC' as $$
declare
  v_day date;
  v_part text;
  v_rows bigint;
  r record;
begin
  created := 0; moved := 0; dropped := 0; overdue := 0; forgotten := 0;
  if not pg_catalog.pg_try_advisory_xact_lock(1852143990, 0) then
    return next;
    return;
  end if;

  for v_day in
    select d::date from pg_catalog.generate_series(current_date, current_date + p_ahead, interval '1 day') d
    union
    select distinct (i.received_at at time zone 'UTC')::date from clerk_private.inbox_default i
    order by 1
  loop
    v_part := 'inbox_' || pg_catalog.to_char(v_day, 'YYYYMMDD');
    continue when pg_catalog.to_regclass('clerk_private.' || v_part) is not null;
    -- Rows that came before their partition lie in the default one and would forbid it: nobody may add to them meanwhile.
    -- The parent first: a row that was routed to the default partition, and waits for it, would find it the wrong one.
    lock table clerk_private.inbox in share row exclusive mode;
    lock table clerk_private.inbox_default in access exclusive mode;
    execute pg_catalog.format('create table clerk_private.%I (like clerk_private.inbox including all)', v_part);
    execute pg_catalog.format('alter table clerk_private.%I enable row level security', v_part);
    execute pg_catalog.format(
      'with gone as (delete from clerk_private.inbox_default where received_at >= %1$L and received_at < %2$L returning *)
       insert into clerk_private.%3$I select * from gone', v_day, v_day + 1, v_part);
    get diagnostics v_rows = row_count;
    execute pg_catalog.format('alter table clerk_private.inbox attach partition clerk_private.%I for values from (%L) to (%L)',
      v_part, v_day, v_day + 1);
    moved := moved + v_rows;
    created := created + 1;
  end loop;

  for r in
    select c.relname from pg_catalog.pg_inherits i join pg_catalog.pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'clerk_private.inbox'::regclass and c.relname ~ '^inbox_\d{8}$'
      and pg_catalog.to_date(pg_catalog.substr(c.relname, 7), 'YYYYMMDD') + 1 <= (now() - p_keep)::date
    order by 1
  loop
    execute pg_catalog.format('select 1 from clerk_private.%I where state in (''waiting'', ''parked'') limit 1', r.relname);
    get diagnostics v_rows = row_count;
    if v_rows > 0 then
      overdue := overdue + 1;
    elsif dropped < 3 then
      execute pg_catalog.format('drop table clerk_private.%I', r.relname);
      dropped := dropped + 1;
    end if;
  end loop;

  with old as (
    select s.ctid from clerk_private.inbox_seen s where s.received_at < now() - p_keep_seen limit p_batch
  )
  delete from clerk_private.inbox_seen s using old where s.ctid = old.ctid;
  get diagnostics forgotten = row_count;
  delete from clerk_private.parked p where p.resolved_at < now() - p_keep_seen;
  return next;
end $$;

-- What an alert should know; numbers only.
create function clerk_private.backlog(p_keep interval default '14 days')
returns table (parked bigint, waiting bigint, burying bigint, blocking_constraints text[], default_rows bigint, overdue_partitions bigint)
language sql stable security definer set search_path = '' as $$
  select
    (select count(*) from clerk_private.parked p where p.resolved_at is null),
    (select count(*) from (select from clerk_private.inbox i where i.state = 'waiting' limit 100000) w),
    (select count(*) from clerk_private.burying),
    (select array_agg(distinct b.constraint_name) from clerk_private.burying b where b.constraint_name is not null),
    (select count(*) from (select from clerk_private.inbox_default limit 100000) d),
    (select count(*) from pg_catalog.pg_inherits i join pg_catalog.pg_class c on c.oid = i.inhrelid
     where i.inhparent = 'clerk_private.inbox'::regclass and c.relname ~ '^inbox_\d{8}$'
       and pg_catalog.to_date(pg_catalog.substr(c.relname, 7), 'YYYYMMDD') + 2 <= (now() - p_keep)::date)
$$;

grant usage on type clerk_private.delivery to clerk_webhook;
grant execute on function clerk_private.ingest(clerk_private.delivery[], clerk_private.change[]) to clerk_webhook;
grant execute on function clerk_private.replay(text[], timestamptz[], clerk_private.change[]) to clerk_cli;
grant execute on function clerk_private.maintain(integer, interval, interval, integer) to clerk_webhook, clerk_worker;
grant execute on function clerk_private.backlog(interval) to clerk_webhook, clerk_worker, clerk_cli;
reset role;
commit;
