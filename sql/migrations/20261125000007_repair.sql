-- migrate:up
-- What the reconciler may do to the mirror. It holds no right on the tables themselves: these functions are all of it.
set local role clerk_owner;
create policy budget_definer on clerk_private.budget for all to clerk_definer using (true) with check (true);
grant select, insert, update on clerk_private.budget to clerk_definer;
reset role;

set local role clerk_definer;

-- The fence. First statement of every writing transaction of a run; FOR SHARE, so that raising the epoch waits for those that
-- passed and stops those that come after.
create function clerk_private.fence(p_run bigint, p_epoch bigint) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '5s' as $$
begin
  perform clerk_private.refuse_session();
  perform from clerk_private.runs r where r.id = p_run and r.epoch = p_epoch and r.state = 'running' for share;
  if not found then
    raise exception 'run % is not in epoch % any more', p_run, p_epoch using errcode = 'object_not_in_prerequisite_state';
  end if;
end $$;

-- Applies what a run read from Clerk. Outcomes as of clerk_private.apply(). It deletes nothing: that is bury_verified's.
create function clerk_private.repair(p_run bigint, p_epoch bigint, p_changes clerk_private.change[]) returns text[]
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '5s' as $$
begin
  perform clerk_private.fence(p_run, p_epoch);
  if exists (select from unnest(p_changes) c where c.buried_by is not null) then
    raise exception 'repair() deletes nothing: bury_verified() does' using errcode = 'NX004';
  end if;
  perform clerk_private.lock_parents(p_changes);
  return clerk_private.apply(p_changes);
end $$;

-- Puts objects' own state back: the raw object with its own version. What was edited by hand is undone, what an older projection
-- made is made anew.
create function clerk_private.undo_edits(p_run bigint, p_epoch bigint, p_kind text, p_ids text[]) returns text[]
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  return clerk_private.repair(p_run, p_epoch, (
    select array_agg((o.kind, o.id, null, o.updated_at, o.observed_at, o.source_rank, o.svix_id, 'sweep', o.raw)
      ::clerk_private.change order by o.id)
    from clerk_private.objects o
    where o.kind = p_kind and o.id = any (p_ids) and o.deleted_at is null and o.raw is not null));
end $$;

-- The sync's limits of the guard. Whatever they are, the ceilings of clerk_private.share() hold.
create function clerk_private.set_guard(p_kind text, p_floor integer, p_percent double precision) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
  update clerk_private.guard_limits g set floor = p_floor, percent = p_percent, set_at = clock_timestamp()
  where g.kind = p_kind and (g.floor, g.percent) is distinct from (p_floor, p_percent) $$;

-- What deletions of these ids would take, cascades included, beside what sweeps took in the last 24 hours, by kind.
create function clerk_private.weigh_deletions(p_kind text, p_ids text[])
returns table (kind text, more bigint, deleted bigint, live bigint, allowed bigint, fits boolean)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select w.kind, w.more, s.deleted, s.live, s.allowed, s.fits
  from clerk_private.deletion_weights(p_kind, p_ids) w
  cross join lateral clerk_private.share(w.kind, w.more, interval '24 hours', '{verification}', true) s $$;

-- Buries ids that two reads by name did not find, each with the moment when the later one began (ms). All of them or none: beyond
-- the guard it raises NX001. With an approved run they must be its parked ids, approved within 24 hours (else NX002), and are
-- neither weighed nor counted.
create function clerk_private.bury_verified(
  p_run bigint, p_epoch bigint, p_kind text, p_ids text[], p_asked_at bigint[], p_approved_run bigint default null) returns text[]
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '5s' as $$
declare
  v_changes clerk_private.change[];
  w record;
begin
  perform clerk_private.fence(p_run, p_epoch);
  select array_agg((p_kind, i.id, 'verification', 0, i.asked_at, 1::smallint, '',
    case when p_approved_run is null then 'sweep' else 'approval' end, null)::clerk_private.change order by i.n)
  into v_changes
  from unnest(p_ids, p_asked_at) with ordinality as i (id, asked_at, n);
  perform clerk_private.lock_parents(v_changes);
  if p_approved_run is null then
    perform clerk_private.lock_guard(array[p_kind]);
    for w in select * from clerk_private.weigh_deletions(p_kind, p_ids) x where not x.fits loop
      raise exception '% of % % rows would be deleted, % were in the last 24 h: % are allowed', w.more, w.live, w.kind, w.deleted, w.allowed
        using errcode = 'NX001', hint = 'Approve the run that parks them, if the deletions are right.';
    end loop;
  elsif not exists (
      select from clerk_private.runs r
      where r.id = p_approved_run and r.state = 'parked' and r.approved_at > clock_timestamp() - interval '24 hours')
    or exists (
      select from unnest(p_ids) i (id) where not exists (
        select from clerk_private.parked_deletions d where d.run_id = p_approved_run and d.kind = p_kind and d.id = i.id)) then
    raise exception 'run % has no approval for these deletions', p_approved_run using errcode = 'NX002';
  end if;
  return clerk_private.apply(v_changes);
end $$;

-- Brings a false tombstone back, if it is still the one that was asked about.
create function clerk_private.revive(p_run bigint, p_epoch bigint, p_change clerk_private.change, p_tombstone_seq bigint) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '5s' as $$
declare
  v_outcomes text[];
begin
  perform clerk_private.fence(p_run, p_epoch);
  if p_change.buried_by is not null then
    raise exception 'revive() deletes nothing' using errcode = 'NX004';
  end if;
  perform clerk_private.lock_parents(array[p_change]);
  -- A child lives only below parents that live; whoever revives these asks for it again.
  if exists (
    select from clerk_private.entity_parents p
    join clerk_private.objects o on o.kind = p.parent_kind and o.id = p_change.object #>> p.path and o.deleted_at is not null
    where p.kind = p_change.kind) then
    return 'buried';
  end if;
  update clerk_private.objects o
  set deleted_at = null, buried_by = null, tombstone_seq = null, revived_at = p_change.observed_at, updated_at = 0, observed_at = 0
  where o.kind = p_change.kind and o.id = p_change.id and o.tombstone_seq = p_tombstone_seq
    and o.deleted_at < p_change.observed_at;
  if not found then
    return 'stale';
  end if;
  delete from clerk_private.burying b where b.kind = p_change.kind and b.id = p_change.id;
  v_outcomes := clerk_private.apply(array[p_change]);
  return v_outcomes[1];
end $$;

-- Lowers a version that is too high, where nothing newer was observed meanwhile.
create function clerk_private.lower_version(p_run bigint, p_epoch bigint, p_change clerk_private.change) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '5s' as $$
declare
  v_outcomes text[];
begin
  perform clerk_private.fence(p_run, p_epoch);
  if p_change.buried_by is not null then
    raise exception 'lower_version() deletes nothing' using errcode = 'NX004';
  end if;
  perform clerk_private.lock_parents(array[p_change]);
  update clerk_private.objects o set updated_at = p_change.updated_at
  where o.kind = p_change.kind and o.id = p_change.id and o.deleted_at is null
    and o.updated_at > p_change.updated_at and o.observed_at < p_change.observed_at;
  if not found then
    return 'stale';
  end if;
  v_outcomes := clerk_private.apply(array[p_change]);
  return v_outcomes[1];
end $$;

-- ---------------------------------------------------------------- comparisons

-- What we hold of one window of created_at, [p_from, p_to) in ms, for an index-only comparison with a page. The window that
-- begins at 0 has also what no window of Clerk's can have, from before 1970 or from the future: a forged event made it.
create function clerk_private.held(p_kind text, p_from bigint, p_to bigint) returns table (id text, updated_at bigint)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select t.id, (extract(epoch from t.updated_at) * 1000)::bigint from clerk_private.typed_rows t
  where t.kind = p_kind and t.created_at >= clerk_private.ms(p_from) and t.created_at < clerk_private.ms(p_to)
  union
  select t.id, (extract(epoch from t.updated_at) * 1000)::bigint from clerk_private.typed_rows t
  where p_from = 0 and t.kind = p_kind
    and (t.created_at < clerk_private.ms(0) or t.created_at >= clock_timestamp() + interval '1 day') $$;

-- Of these ids, the typed rows that no live arbiter row stands for: imported before, or restored alone, perhaps under a tombstone.
-- Without ids: one, if there is any. What is being buried is none of them.
create function clerk_private.unadopted(p_kind text, p_ids text[]) returns setof text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
  if p_ids is null then
    return query
      (select t.id from clerk_private.typed_rows t
       where t.kind = p_kind and not exists (select from clerk_private.objects o where o.kind = p_kind and o.id = t.id) limit 1)
      union all
      (select o.id from clerk_private.objects o join clerk_private.typed_rows t on t.kind = p_kind and t.id = o.id
       where o.kind = p_kind and o.deleted_at is not null
         and not exists (select from clerk_private.burying b where b.kind = p_kind and b.id = o.id) limit 1)
      limit 1;
  else
    return query
      select t.id from clerk_private.typed_rows t
      where t.kind = p_kind and t.id = any (p_ids)
        and not exists (select from clerk_private.objects o where o.kind = p_kind and o.id = t.id and o.deleted_at is null)
        and not exists (select from clerk_private.burying b where b.kind = p_kind and b.id = t.id);
  end if;
end $$;

-- The local comparison, a chunk of objects after p_after: typed rows that somebody edited or removed, and rows that an older
-- projection made. No API is asked. The last row of a chunk has no id.
create function clerk_private.edited(p_kind text, p_after text, p_limit integer)
returns table (last_id text, id text, problem text)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_last text;
begin
  select max(x.id) into v_last from (
    select o.id from clerk_private.objects o where o.kind = p_kind and o.id > p_after order by o.id limit p_limit) x;
  if v_last is null then
    return;
  end if;
  return query
    select v_last, o.id, case when o.projection is distinct from e.projection then 'projection' else 'edited' end
    from clerk_private.entities e
    join clerk_private.objects o on o.kind = p_kind and o.deleted_at is null and o.id > p_after and o.id <= v_last
    left join clerk_private.typed_rows t on t.kind = p_kind and t.id = o.id
      and t.id > p_after and t.id <= v_last   -- said again for the planner, which would read all rows for every chunk
    where e.kind = p_kind and (o.projection is distinct from e.projection or o.digest is distinct from t.digest)
    union all
    select v_last, null, null;
end $$;

-- The deep comparison: which of these objects project to something else than what we hold.
create function clerk_private.differing(p_kind text, p_ids text[], p_objects jsonb[]) returns setof text
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select x.id from unnest(p_ids, p_objects) x (id, object)
  join clerk_private.objects o on o.kind = p_kind and o.id = x.id and o.deleted_at is null
  where o.digest is distinct from clerk_private.projected_digest(p_kind, x.object) $$;

-- ---------------------------------------------------------------- the budget

-- Makes an instance's budget; one that is there gets this share if p_set says so.
create function clerk_private.open_budget(p_instance text, p_per_second double precision, p_burst double precision, p_set boolean)
returns void language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  insert into clerk_private.budget (instance_id, per_second, burst, tokens) values (p_instance, p_per_second, p_burst, p_burst)
  on conflict (instance_id) do nothing;
  if not found and p_set then
    update clerk_private.budget b set per_second = p_per_second, burst = p_burst, tokens = least(b.tokens, p_burst)
    where b.instance_id = p_instance;
  end if;
end $$;

-- Takes up to p_want requests out of the budget; none granted: when to ask again, in ms. Judged by the database's clock alone.
create function clerk_private.take_budget(p_instance text, p_want integer, out granted integer, out wait_ms integer)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  b clerk_private.budget;
  v_now timestamptz;
begin
  select * into b from clerk_private.budget x where x.instance_id = p_instance for update;
  if not found then
    raise exception 'instance % has no budget', p_instance using errcode = 'object_not_in_prerequisite_state';
  end if;
  v_now := clock_timestamp();
  granted := 0;
  if b.paused_until > v_now then
    wait_ms := ceil(extract(epoch from b.paused_until - v_now) * 1000);
    return;
  end if;
  b.tokens := least(b.burst, b.tokens + b.per_second * greatest(0, extract(epoch from v_now - b.refilled_at)));
  granted := least(p_want, floor(b.tokens));
  wait_ms := case when granted > 0 then 0 else ceil((1 - b.tokens) / b.per_second * 1000) end;
  update clerk_private.budget x set tokens = b.tokens - granted, refilled_at = v_now, paused_until = null where x.instance_id = p_instance;
end $$;

-- One 429 pauses everybody. What had been saved up is gone with it.
create function clerk_private.pause_budget(p_instance text, p_seconds double precision) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
  update clerk_private.budget b
  set paused_until = greatest(b.paused_until, clock_timestamp() + make_interval(secs => p_seconds)), tokens = 0, refilled_at = clock_timestamp()
  where b.instance_id = p_instance $$;

grant execute on function
  clerk_private.fence(bigint, bigint), clerk_private.repair(bigint, bigint, clerk_private.change[]),
  clerk_private.undo_edits(bigint, bigint, text, text[]), clerk_private.set_guard(text, integer, double precision),
  clerk_private.weigh_deletions(text, text[]), clerk_private.bury_verified(bigint, bigint, text, text[], bigint[], bigint),
  clerk_private.revive(bigint, bigint, clerk_private.change, bigint),
  clerk_private.lower_version(bigint, bigint, clerk_private.change),
  clerk_private.held(text, bigint, bigint), clerk_private.unadopted(text, text[]), clerk_private.edited(text, text, integer),
  clerk_private.differing(text, text[], jsonb[])
to clerk_reconciler;
grant execute on function clerk_private.open_budget(text, double precision, double precision, boolean),
  clerk_private.take_budget(text, integer), clerk_private.pause_budget(text, double precision)
to clerk_reconciler, clerk_webhook;
reset role;

-- migrate:down
set local role clerk_definer;
drop function clerk_private.pause_budget, clerk_private.take_budget, clerk_private.open_budget, clerk_private.differing, clerk_private.edited,
  clerk_private.unadopted, clerk_private.held, clerk_private.lower_version, clerk_private.revive, clerk_private.bury_verified,
  clerk_private.weigh_deletions, clerk_private.set_guard, clerk_private.undo_edits, clerk_private.repair, clerk_private.fence;
reset role;
set local role clerk_owner;
drop policy budget_definer on clerk_private.budget;
revoke select, insert, update on clerk_private.budget from clerk_definer;
reset role;
