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

-- Takes those deletions out of a batch that are not to be believed yet, notes them as held, and answers the rest: null in their
-- place. Deletions by event may spend the guard's share of a kind in an hour, cascades counted; further ones are held, and those
-- under a secret that was refused before are held in any case. Without anybody who could verify them they are applied, and counted.
create function clerk_private.hold_deletions(p_deliveries clerk_private.delivery[], p_changes clerk_private.change[])
returns clerk_private.change[]
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  c_window constant interval := '1 hour';
  c_patience constant interval := '5 minutes';
  v_kept clerk_private.change[] := p_changes;
  v_spent jsonb := '{}';
  v_weights jsonb;
  v_passed text[] := '{}';
  v_verified boolean;
  v_over boolean;
  v_reason text;
  d record;
begin
  if not exists (select from unnest(p_changes) c where c.buried_by is not null) then
    return p_changes;
  end if;
  perform clerk_private.lock_guard(array(select distinct c.kind from unnest(p_changes) c where c.buried_by is not null));
  v_verified := exists (select from clerk_private.verifier v where v.seen_at > clock_timestamp() - c_patience);

  for d in
    select c.ordinality as n, c.kind, c.id, c.observed_at, coalesce(o.revived_at, -1) as revived_at,
      p_deliveries[c.ordinality].svix_id, p_deliveries[c.ordinality].secret
    from unnest(p_changes) with ordinality as c
    left join clerk_private.objects o on o.kind = c.kind and o.id = c.id
    where c.buried_by is not null order by c.ordinality
  loop
    v_reason := null;
    if exists (
      select from clerk_private.distrusted_secrets s where s.secret = d.secret and s.cleared_at is null) then
      v_reason := 'secret';
    elsif exists (
      select from clerk_private.held_deletions h
      where h.kind = d.kind and h.id = d.id and h.state = 'held' and h.reason <> 'replaced') then
      v_reason := 'share';
    elsif d.observed_at > d.revived_at and not d.kind || ' ' || d.id = any (v_passed) then  -- else stale, or weighed already
      -- What is to go in all, of the kinds that this deletion takes rows of.
      select coalesce(jsonb_object_agg(w.kind, w.more + coalesce((v_spent ->> w.kind)::bigint, 0)), '{}') into v_weights
      from clerk_private.deletion_weights(d.kind, array[d.id]) w where w.more > 0;
      v_over := exists (
        select from jsonb_each_text(v_weights) w
        where not (clerk_private.share(w.key, w.value::bigint, c_window, '{event}', false)).fits);
      if v_over and v_verified then
        v_reason := 'share';
      else
        v_spent := v_spent || v_weights;
        v_passed := v_passed || (d.kind || ' ' || d.id);
        -- The question whether it was replaced is answered.
        update clerk_private.held_deletions h set state = 'confirmed', decided_at = clock_timestamp(), decided_by = 'event'
        where h.kind = d.kind and h.id = d.id and h.state = 'held' and h.reason = 'replaced';
        if v_over then
          insert into clerk_private.verifier as v (unverified) values (1)
          on conflict (singleton) do update set unverified = v.unverified + 1;
        end if;
      end if;
    end if;
    if v_reason is not null then
      -- Of an event that came before and was forgotten (inbox_seen restored alone) the row is there already.
      insert into clerk_private.held_deletions as h (svix_id, received_at, kind, id, secret, observed_at, reason)
      values (d.svix_id, now(), d.kind, d.id, d.secret, d.observed_at, v_reason)
      on conflict (svix_id) do update set received_at = excluded.received_at, kind = excluded.kind, id = excluded.id,
        secret = excluded.secret, observed_at = excluded.observed_at, reason = excluded.reason, held_at = excluded.held_at,
        state = 'held', there_at = null, not_before = excluded.not_before, decided_at = null, decided_by = null;
      v_kept[d.n] := null;
    end if;
  end loop;
  return v_kept;
end $$;

-- A new object in a place that only one can have: the deletion of the older one was lost, or is on its way. Clerk is asked.
create function clerk_private.hold_replaced(
  p_deliveries clerk_private.delivery[], p_changes clerk_private.change[], p_outcomes text[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  v_kind text;
begin
  for v_kind in
    select distinct c.kind from unnest(p_changes) with ordinality as c join clerk_private.entities e on e.kind = c.kind and e.one_per_parents
    where p_outcomes[c.ordinality] = 'created'
  loop
    insert into clerk_private.held_deletions (svix_id, received_at, kind, id, secret, observed_at, reason)
    select p_deliveries[c.ordinality].svix_id, now(), c.kind, r.id, p_deliveries[c.ordinality].secret, c.observed_at, 'replaced'
    from unnest(p_changes) with ordinality as c
    join clerk_private.replaced(v_kind, array(
      select x.id from unnest(p_changes) with ordinality as x where x.kind = v_kind and p_outcomes[x.ordinality] = 'created')) r
      on r.by_id = c.id
    where c.kind = v_kind and p_outcomes[c.ordinality] = 'created'
    on conflict do nothing;
  end loop;
end $$;

-- Carries out what was decided about held deletions of these objects: the rows go, or the events are refused. With p_read_at
-- (ms) only events that an earlier read has found untrue already, and whose time for the second one has come.
create function clerk_private.decide_held(p_kind text, p_ids text[], p_state text, p_by text, p_read_at bigint default null) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  v_changes clerk_private.change[];
  v_decided bigint;
begin
  if p_state in ('confirmed', 'released') then
    perform clerk_private.lock_parents(array(
      select (p_kind, i.id, 'event', 0, 0, 0::smallint, '', '', null)::clerk_private.change from unnest(p_ids) i (id)));
    -- Whoever decides first decides: a row that a human refused meanwhile is not held any more.
    perform from clerk_private.held_deletions h
    where h.kind = p_kind and h.id = any (p_ids) and h.state = 'held' order by h.svix_id for update;
    select array_agg((h.kind, h.id, 'event', 0, h.observed_at, 0::smallint, '',
      case p_state when 'confirmed' then 'confirmed' else 'release' end, null)::clerk_private.change)
    into v_changes
    from (
      select h.kind, h.id, max(h.observed_at) as observed_at from clerk_private.held_deletions h
      where h.kind = p_kind and h.id = any (p_ids) and h.state = 'held' group by h.kind, h.id) h;
    if v_changes is not null then
      perform clerk_private.apply(v_changes);
    end if;
  end if;
  with decided as (
    update clerk_private.held_deletions h set state = p_state, decided_at = clock_timestamp(), decided_by = p_by
    where h.kind = p_kind and h.id = any (p_ids) and h.state = 'held'
      and (p_read_at is null or h.there_at < p_read_at and h.not_before <= clock_timestamp())
    returning h.*
  ), noted as (
    update clerk_private.inbox i
    set state = case p_state when 'refused' then 'kept' else 'applied' end, outcome = case p_state when 'refused' then 'refused' else 'deleted' end
    from decided d where i.received_at = d.received_at and i.svix_id = d.svix_id and d.reason <> 'replaced'
  ), distrusted as (
    insert into clerk_private.distrusted_secrets as s (secret)
    select distinct d.secret from decided d where p_state = 'refused' and d.reason <> 'replaced'
    on conflict (secret) do update set since = clock_timestamp(), cleared_at = null, cleared_by = null where s.cleared_at is not null
  )
  select count(*) into v_decided from decided;
  return v_decided;
end $$;
select clerk_private.grant_definer();
grant usage on type clerk_private.delivery, clerk_private.change to clerk_definer, clerk_writer;
reset role;

set local role clerk_definer;
-- Plans are made once a session: planned anew for its sizes, a batch of one costs twice as much (2.2 against 1.1 ms).
-- One batch of deliveries, each with its change or null, in one transaction; answers what became of each, "seen" for those
-- that came before (in an earlier batch, in this one, or in one that committed while we waited).
create function clerk_private.ingest(p_deliveries clerk_private.delivery[], p_changes clerk_private.change[]) returns text[]
language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = 'force_generic_plan' set lock_timeout = '5s' as $$
declare
  -- No event was observed later than it arrived: one from a far future could not be mended by any later read.
  v_latest constant bigint := extract(epoch from now() + interval '5 minutes') * 1000;
  v_fresh boolean[];
  v_changes clerk_private.change[];
  v_kept clerk_private.change[];
  v_outcomes text[];
begin
  perform clerk_private.refuse_session();
  if exists (select from unnest(p_changes) c where c.observed_at > v_latest) then
    p_changes := (
      select array_agg(case when c.kind is not null then (c.kind, c.id, c.buried_by, c.updated_at, least(c.observed_at, v_latest),
        c.source_rank, c.svix_id, c.source, c.object)::clerk_private.change end order by c.ordinality)
      from unnest(p_changes) with ordinality as c);
  end if;
  perform clerk_private.lock_parents(p_changes);

  with fresh as (
    insert into clerk_private.inbox_seen (svix_id)
    select distinct d.svix_id from unnest(p_deliveries) d order by d.svix_id
    on conflict do nothing
    returning svix_id
  ), told as (
    select d.ordinality as n, f.svix_id is not null and row_number() over (partition by d.svix_id order by d.ordinality) = 1 as fresh
    from unnest(p_deliveries) with ordinality as d
    left join fresh f on f.svix_id = d.svix_id
  )
  select array_agg(t.fresh order by t.n), array_agg(case when t.fresh then p_changes[t.n] end order by t.n)
  into v_fresh, v_changes
  from told t;

  if true = any (v_fresh) then
    v_kept := clerk_private.hold_deletions(p_deliveries, v_changes);
    v_outcomes := clerk_private.apply(v_kept);
    if 'created' = any (v_outcomes) then
      perform clerk_private.hold_replaced(p_deliveries, v_kept, v_outcomes);
    end if;
    if exists (select from unnest(v_changes) c where c.buried_by is not null) then  -- only deletions are held
      v_outcomes := (
        select array_agg(case when c.kind is not null and v_kept[c.ordinality] is null then 'held' else v_outcomes[c.ordinality] end
          order by c.ordinality)
        from unnest(v_changes) with ordinality as c);
    end if;

    insert into clerk_private.inbox (svix_id, svix_timestamp, signature, secret, type, instance_id, observed_at, kind, object_id,
      subjects, state, outcome, body, body_hmac)
    select d.svix_id, d.svix_timestamp, d.signature, d.secret, d.type, d.instance_id, least(d.observed_at, v_latest), d.kind, d.object_id,
      coalesce(d.subjects, '{}'),
      case v_outcomes[d.ordinality] when 'incomplete' then 'parked' when 'held' then 'held' else d.state end,
      v_outcomes[d.ordinality], d.body, d.body_hmac
    from unnest(p_deliveries) with ordinality as d
    where v_fresh[d.ordinality];

    if 'incomplete' = any (v_outcomes) or exists (select from unnest(p_deliveries) d where d.state = 'parked') then
      insert into clerk_private.parked (svix_id, error)
      select d.svix_id, coalesce(d.error, 'names no user or no organization, and we hold no such membership; or others than its row has')
      from unnest(p_deliveries) with ordinality as d
      where v_fresh[d.ordinality] and (d.state = 'parked' or v_outcomes[d.ordinality] = 'incomplete')
      on conflict do nothing;
    end if;
  end if;

  return (
    select array_agg(case when not f.fresh then 'seen'
                          when (p_deliveries[f.n]).state = 'applied' then v_outcomes[f.n]
                          else (p_deliveries[f.n]).state end order by f.n)
    from unnest(v_fresh) with ordinality as f (fresh, n));
end $$;

-- Applies stored events again, with the version that each had, and writes down what came of it. Harmless, however often: a
-- deletion that is held, or was refused, stays so.
create function clerk_private.replay(p_svix_ids text[], p_received timestamptz[], p_changes clerk_private.change[]) returns text[]
language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = 'force_generic_plan' set lock_timeout = '5s' as $$
declare
  v_held text[];
  v_changes clerk_private.change[];
  v_outcomes text[];
begin
  perform clerk_private.refuse_session();
  perform clerk_private.lock_parents(p_changes);
  select array_agg(h.state order by s.ordinality),
    array_agg(case when h.state is null then p_changes[s.ordinality] end order by s.ordinality)
  into v_held, v_changes
  from unnest(p_svix_ids) with ordinality as s (svix_id)
  left join clerk_private.held_deletions h on h.svix_id = s.svix_id and h.state in ('held', 'refused');
  v_outcomes := clerk_private.apply(v_changes);
  v_outcomes := (
    select array_agg(coalesce(h.state, v_outcomes[h.ordinality]) order by h.ordinality)
    from unnest(v_held) with ordinality as h (state));

  update clerk_private.inbox i set state = case when r.outcome = 'incomplete' then 'parked' else 'applied' end, outcome = r.outcome
  from (
    select s.svix_id, p_received[s.ordinality] as received_at, v_outcomes[s.ordinality] as outcome
    from unnest(p_svix_ids) with ordinality as s (svix_id)
    where v_held[s.ordinality] is null
    order by s.svix_id collate "C") r
  where i.received_at = r.received_at and i.svix_id = r.svix_id and (i.state <> 'applied' or r.outcome = 'incomplete');

  update clerk_private.parked p set attempts = p.attempts + 1,
    resolved_at = case when r.outcome = 'incomplete' then null else coalesce(p.resolved_at, now()) end
  from (select s.svix_id, v_outcomes[s.ordinality] as outcome from unnest(p_svix_ids) with ordinality as s (svix_id)) r
  where p.svix_id = r.svix_id and p.resolved_at is null;
  return v_outcomes;
end $$;

-- ---------------------------------------------------------------- held deletions

-- Says that somebody is there who can ask Clerk by name, and comes back within p_ahead: an hour at most is believed.
create function clerk_private.verifier_seen(p_ahead interval default '0') returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
  insert into clerk_private.verifier as v (seen_at) values (clock_timestamp() + least(p_ahead, interval '1 hour'))
  on conflict (singleton) do update set seen_at = excluded.seen_at
  where v.seen_at is null or v.seen_at < excluded.seen_at $$;

-- Objects whose held deletions should be asked about now, with the parents by which a child is asked for.
create function clerk_private.held_due(p_limit integer) returns table (kind text, id text, parents text[])
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select h.kind, h.id, (select t.parents from clerk_private.typed_rows t where t.kind = h.kind and t.id = h.id)
  from (
    select h.kind, h.id, min(h.not_before) as not_before from clerk_private.held_deletions h
    where h.state = 'held' group by h.kind, h.id) h
  where h.not_before <= clock_timestamp()
  order by h.not_before, h.kind, h.id limit p_limit $$;

-- Takes in what Clerk answered about held deletions of one kind: p_there says of each id whether it was found (null: nothing was
-- proved). One absent read confirms; two that found the object, p_spacing apart, refuse. Answers each id's state.
create function clerk_private.answer_held(
  p_kind text, p_ids text[], p_there boolean[], p_asked_at bigint[], p_spacing interval) returns text[]
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '5s' as $$
begin
  perform clerk_private.refuse_session();
  perform clerk_private.decide_held(p_kind, array(
    select i.id from unnest(p_ids) with ordinality as i (id) where not p_there[i.ordinality]), 'confirmed', session_user::text);
  -- Where no row is left to lose, nothing needs to be proved: it went with its parent, or there never was one.
  perform clerk_private.decide_held(p_kind, array(
    select i.id from unnest(p_ids) with ordinality as i (id)
    where p_there[i.ordinality] is null and not exists (
      select from clerk_private.deletion_weights(p_kind, array[i.id]) w where w.more > 0)), 'confirmed', session_user::text);
  -- Each event by itself: one that came later for the same object neither hurries the others nor puts them off.
  perform clerk_private.decide_held(p_kind, array[i.id], 'refused', session_user::text, p_asked_at[i.ordinality])
  from unnest(p_ids) with ordinality as i (id) where p_there[i.ordinality] order by i.id;
  update clerk_private.held_deletions h
  set not_before = clock_timestamp() + p_spacing,
    there_at = case when p_there[i.ordinality] then coalesce(h.there_at, p_asked_at[i.ordinality]) else h.there_at end
  from unnest(p_ids) with ordinality as i (id)
  where h.kind = p_kind and h.id = i.id and h.state = 'held' and h.not_before <= clock_timestamp();
  return (
    select array_agg((
        select h.state from clerk_private.held_deletions h where h.kind = p_kind and h.id = i.id order by h.held_at desc limit 1)
      order by i.ordinality)
    from unnest(p_ids) with ordinality as i (id));
end $$;

-- A human's word about held deletions, by the ids of their events: release, or refuse. Answers how many it decided.
create function clerk_private.settle_held(p_svix_ids text[], p_release boolean, p_by text) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '5s' as $$
declare
  r record;
  v_decided bigint := 0;
begin
  perform clerk_private.refuse_session();
  perform clerk_private.lock_parents(array(
    select (h.kind, h.id, 'event', 0, h.observed_at, 0::smallint, '', 'release', null)::clerk_private.change
    from clerk_private.held_deletions h where h.svix_id = any (p_svix_ids) and h.state = 'held'));
  for r in
    select h.kind, array_agg(distinct h.id) as ids from clerk_private.held_deletions h join clerk_private.entities e using (kind)
    where h.svix_id = any (p_svix_ids) and h.state = 'held' group by h.kind, e.rank order by e.rank
  loop
    v_decided := v_decided + clerk_private.decide_held(r.kind, r.ids, case when p_release then 'released' else 'refused' end, p_by);
  end loop;
  return v_decided;
end $$;

-- From now on deletions under this secret are believed again, as far as any.
create function clerk_private.clear_secret(p_secret text, p_by text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  update clerk_private.distrusted_secrets s set cleared_at = clock_timestamp(), cleared_by = p_by
  where s.secret = p_secret and s.cleared_at is null;
  return found;
end $$;

-- Takes what an erased object left behind out of the inbox, in every partition: bodies go, ids and times stay.
create function clerk_private.forget(p_id text, out events bigint, out refused bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform clerk_private.refuse_session();
  if exists (select from clerk_private.typed_rows t where t.id = p_id) then
    raise exception '% is live: delete it in Clerk first', p_id using errcode = 'NX005';
  end if;
  update clerk_private.inbox i
  set body = convert_to(jsonb_build_object('type', i.type, 'data', '[erased]')::text, 'UTF8'), body_hmac = '',
    state = case when i.state in ('waiting', 'parked') then 'kept' else i.state end, outcome = 'erased'
  where (i.object_id = p_id or p_id = any (i.subjects)) and i.outcome is distinct from 'erased' and i.state <> 'held';
  get diagnostics events = row_count;
  update clerk_private.parked p set resolved_at = now()
  from clerk_private.inbox i
  where i.svix_id = p.svix_id and i.outcome = 'erased' and p.resolved_at is null;
  delete from clerk_private.refused_objects r where r.id = p_id;
  get diagnostics refused = row_count;
end $$;

grant execute on function clerk_private.ingest(clerk_private.delivery[], clerk_private.change[]) to clerk_webhook;
grant execute on function clerk_private.replay(text[], timestamptz[], clerk_private.change[]) to clerk_cli;
grant execute on function clerk_private.verifier_seen(interval), clerk_private.held_due(integer),
  clerk_private.answer_held(text, text[], boolean[], bigint[], interval) to clerk_webhook, clerk_reconciler;
grant execute on function clerk_private.settle_held(text[], boolean, text), clerk_private.clear_secret(text, text),
  clerk_private.forget(text) to clerk_cli;
reset role;

set local role clerk_owner;

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
  perform from clerk_private.chores c where c.name = 'maintain' for update skip locked;
  if not found then
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
  delete from clerk_private.held_deletions h where h.decided_at < now() - c_keep_seen;
  delete from clerk_private.deletions d where d.at < now() - c_keep_seen;

  -- A time of receipt is the server's own. Those that no delivery can have would make partitions without end.
  update clerk_private.inbox_default i set received_at = now()
  where not (i.received_at > now() - c_keep_seen and i.received_at < current_date + c_ahead);

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
    execute format('select 1 from clerk_private.%I where state in (''waiting'', ''parked'', ''held'') limit 1', v_part);
    get diagnostics v_rows = row_count;
    if v_rows > 0 then
      overdue := overdue + 1;
      -- What is finished goes all the same: an erased user's name must not stay for as long as somebody else's event waits.
      execute format('delete from clerk_private.%I where state not in (''waiting'', ''parked'', ''held'')', v_part);
    elsif dropped < 3 then
      begin
        -- Looked at again with nobody in it: a replay may just have parked one of its events. Who reads long is not waited for.
        lock table only clerk_private.inbox in access exclusive mode;
        execute format('select 1 from clerk_private.%I where state in (''waiting'', ''parked'', ''held'') limit 1', v_part);
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
returns table (parked bigint, waiting bigint, burying bigint, blocking_constraints text[], default_rows bigint, overdue_partitions bigint,
  held bigint, held_oldest_seconds double precision, distrusted_secrets bigint, unverified_deletions bigint, verifier_seconds double precision)
language sql stable security definer set search_path = pg_catalog, pg_temp set timezone = 'UTC' as $$
  select
    (select count(*) from clerk_private.parked p where p.resolved_at is null),
    (select count(*) from (select from clerk_private.inbox i where i.state = 'waiting' limit 100000) w),
    (select count(distinct (b.kind, b.id)) from clerk_private.burying b),
    (select array_agg(distinct b.constraint_name) from clerk_private.burying b where b.constraint_name is not null),
    (select count(*) from (select from clerk_private.inbox_default limit 100000) d),
    (select count(*) from pg_inherits i join pg_class c on c.oid = i.inhrelid
     where i.inhparent = 'clerk_private.inbox'::regclass and c.relname ~ '^inbox_\d{8}$'
       and to_date(substr(c.relname, 7), 'YYYYMMDD') + 2 <= (now() - interval '14 days')::date),
    (select count(*) from clerk_private.held_deletions h where h.state = 'held'),
    (select extract(epoch from clock_timestamp() - min(h.held_at))::double precision from clerk_private.held_deletions h where h.state = 'held'),
    (select count(*) from clerk_private.distrusted_secrets s where s.cleared_at is null),
    (select coalesce(max(v.unverified), 0) from clerk_private.verifier v),
    (select greatest(extract(epoch from clock_timestamp() - v.seen_at), 0)::double precision
     from clerk_private.verifier v where v.seen_at is not null)
$$;

grant execute on function clerk_private.maintain() to clerk_webhook, clerk_worker, clerk_reconciler;
grant execute on function clerk_private.backlog() to clerk_webhook, clerk_worker, clerk_reconciler, clerk_cli;
reset role;

-- migrate:down
set local role clerk_definer;
drop function clerk_private.forget, clerk_private.clear_secret, clerk_private.settle_held, clerk_private.answer_held, clerk_private.held_due,
  clerk_private.verifier_seen, clerk_private.replay, clerk_private.ingest;
reset role;
set local role clerk_owner;
drop function clerk_private.backlog, clerk_private.maintain, clerk_private.decide_held, clerk_private.hold_replaced, clerk_private.hold_deletions;
drop type clerk_private.delivery;
reset role;
