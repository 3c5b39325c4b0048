-- migrate:up
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

-- Plans are made once a session: planned anew for its sizes, a batch of one costs twice as much (2.2 against 1.1 ms).
-- One batch of deliveries, each with its change or null, in one transaction; answers what became of each, "seen" for those
-- that came before (in an earlier batch, in this one, or in one that committed while we waited).
create function clerk_private.ingest(p_deliveries clerk_private.delivery[], p_changes clerk_private.change[]) returns text[]
language plpgsql set search_path = '' set plan_cache_mode = 'force_generic_plan' as $$
declare
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
  ), told as (
    select d.n, f.svix_id is not null and row_number() over (partition by d.svix_id order by d.n) = 1 as fresh
    from unnest(p_deliveries) with ordinality
      as d (svix_id, svix_timestamp, signature, secret, type, instance_id, observed_at, kind, object_id, subjects, state, error,
            body, body_hmac, n)
    left join fresh f on f.svix_id = d.svix_id
  )
  select array_agg(t.fresh order by t.n), array_agg(case when t.fresh then p_changes[t.n] end order by t.n)
  into v_fresh, v_changes
  from told t;

  if true = any (v_fresh) then
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
    select array_agg(case when not f.fresh then 'seen'
                          when (p_deliveries[f.n]).state = 'applied' then v_outcomes[f.n]
                          else (p_deliveries[f.n]).state end order by f.n)
    from unnest(v_fresh) with ordinality as f (fresh, n));
end $$;

-- Applies stored events again, with the version that each had, and writes down what came of it. Harmless, however often.
create function clerk_private.replay(p_svix_ids text[], p_received timestamptz[], p_changes clerk_private.change[]) returns text[]
language plpgsql set search_path = '' set plan_cache_mode = 'force_generic_plan' as $$
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
-- time: who comes second leaves at once. Definer, because partitions belong to the owner; hence without an argument that could
-- make it drop more.
create function clerk_private.maintain()
returns table (created integer, moved bigint, dropped integer, overdue integer, forgotten bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '1s' set timezone = 'UTC' as $$
declare
  c_ahead constant integer := 7;
  c_keep constant interval := '14 days';
  c_keep_seen constant interval := '100 days';
  c_forget constant integer := 50000;  -- an hour's, at 14 events per second
  v_day date;
  v_part text;
  v_rows bigint;
begin
  created := 0; moved := 0; dropped := 0; overdue := 0; forgotten := 0;
  if not pg_try_advisory_xact_lock(1852143990, 0) then
    return next;
    return;
  end if;

  -- First what keeps nobody out, then what keeps writers out of the inbox, until this transaction commits.
  with old as (
    select s.ctid from clerk_private.inbox_seen s where s.received_at < now() - c_keep_seen limit c_forget
  )
  delete from clerk_private.inbox_seen s using old where s.ctid = old.ctid;
  get diagnostics forgotten = row_count;
  delete from clerk_private.parked p where p.resolved_at < now() - c_keep_seen;

  for v_day in
    select d::date from generate_series(current_date, current_date + c_ahead, interval '1 day') d
    union
    select distinct (i.received_at at time zone 'UTC')::date from clerk_private.inbox_default i
    order by 1
  loop
    v_part := 'inbox_' || to_char(v_day, 'YYYYMMDD');
    continue when to_regclass('clerk_private.' || v_part) is not null;
    -- Rows that came before their partition lie in the default one and would forbid it: nobody may add to them meanwhile.
    -- The parent first: a row that was routed to the default partition, and waits for it, would find it the wrong one.
    -- A day that has not come has no rows, and nobody needs to wait.
    if v_day <= current_date + 1 or exists (select from clerk_private.inbox_default) then
      lock table only clerk_private.inbox in share row exclusive mode;
      lock table clerk_private.inbox_default in access exclusive mode;
    end if;
    execute format('create table clerk_private.%I (like clerk_private.inbox including all)', v_part);
    execute format('alter table clerk_private.%I enable row level security', v_part);
    execute format(
      'with gone as (delete from clerk_private.inbox_default where received_at >= %1$L and received_at < %2$L returning *)
       insert into clerk_private.%3$I select * from gone', v_day, v_day + 1, v_part);
    get diagnostics v_rows = row_count;
    execute format('alter table clerk_private.inbox attach partition clerk_private.%I for values from (%L) to (%L)',
      v_part, v_day, v_day + 1);
    moved := moved + v_rows;
    created := created + 1;
  end loop;

  for v_part in
    select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'clerk_private.inbox'::regclass and c.relname ~ '^inbox_\d{8}$'
      and to_date(substr(c.relname, 7), 'YYYYMMDD') + 1 <= (now() - c_keep)::date
    order by 1
  loop
    execute format('select 1 from clerk_private.%I where state in (''waiting'', ''parked'') limit 1', v_part);
    get diagnostics v_rows = row_count;
    if v_rows > 0 then
      overdue := overdue + 1;
    elsif dropped < 3 then
      begin
        -- Looked at again with nobody in it: a replay may just have parked one of its events. Who reads long is not waited for.
        lock table only clerk_private.inbox in access exclusive mode;
        execute format('select 1 from clerk_private.%I where state in (''waiting'', ''parked'') limit 1', v_part);
        get diagnostics v_rows = row_count;
        if v_rows = 0 then
          execute format('drop table clerk_private.%I', v_part);
          dropped := dropped + 1;
        end if;
      exception when lock_not_available then
        exit;
      end;
    end if;
  end loop;
  return next;
end $$;

-- What an alert should know; numbers only. A partition is overdue when it is still there a day after it should have gone.
create function clerk_private.backlog()
returns table (parked bigint, waiting bigint, burying bigint, blocking_constraints text[], default_rows bigint, overdue_partitions bigint)
language sql stable security definer set search_path = pg_catalog, pg_temp set timezone = 'UTC' as $$
  select
    (select count(*) from clerk_private.parked p where p.resolved_at is null),
    (select count(*) from (select from clerk_private.inbox i where i.state = 'waiting' limit 100000) w),
    (select count(distinct (b.kind, b.id)) from clerk_private.burying b),
    (select array_agg(distinct b.constraint_name) from clerk_private.burying b where b.constraint_name is not null),
    (select count(*) from (select from clerk_private.inbox_default limit 100000) d),
    (select count(*) from pg_inherits i join pg_class c on c.oid = i.inhrelid
     where i.inhparent = 'clerk_private.inbox'::regclass and c.relname ~ '^inbox_\d{8}$'
       and to_date(substr(c.relname, 7), 'YYYYMMDD') + 2 <= (now() - interval '14 days')::date)
$$;

grant usage on type clerk_private.delivery to clerk_webhook;
grant execute on function clerk_private.ingest(clerk_private.delivery[], clerk_private.change[]) to clerk_webhook;
grant execute on function clerk_private.replay(text[], timestamptz[], clerk_private.change[]) to clerk_cli;
grant execute on function clerk_private.maintain() to clerk_webhook, clerk_worker;
grant execute on function clerk_private.backlog() to clerk_webhook, clerk_worker, clerk_cli;
reset role;

-- migrate:down
set local role clerk_owner;
drop function clerk_private.backlog, clerk_private.maintain, clerk_private.replay, clerk_private.ingest;
drop type clerk_private.delivery;
reset role;
