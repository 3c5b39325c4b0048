-- migrate:up
set local role clerk_owner;

-- The fence. First statement of every writing transaction of a run; FOR SHARE, so that raising the epoch waits for those that
-- passed and stops those that come after.
create function clerk_private.fence(p_run bigint, p_epoch bigint) returns void language plpgsql set search_path = '' as $$
begin
  perform from clerk_private.runs r where r.id = p_run and r.epoch = p_epoch and r.state = 'running' for share;
  if not found then
    raise exception 'run % is not in epoch % any more', p_run, p_epoch using errcode = 'object_not_in_prerequisite_state';
  end if;
end $$;

-- Applies what a run read from Clerk. Outcomes as of clerk_private.apply().
create function clerk_private.repair(p_run bigint, p_epoch bigint, p_changes clerk_private.change[]) returns text[]
language plpgsql set search_path = '' as $$
begin
  perform clerk_private.fence(p_run, p_epoch);
  perform clerk_private.lock_parents(p_changes);
  return clerk_private.apply(p_changes);
end $$;

-- Takes up to p_want requests out of the budget; none granted: when to ask again, in ms. Judged by the database's clock alone.
create function clerk_private.take_budget(p_instance text, p_want integer, out granted integer, out wait_ms integer)
language plpgsql set search_path = '' as $$
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
language sql set search_path = '' as $$
  update clerk_private.budget b
  set paused_until = greatest(b.paused_until, clock_timestamp() + make_interval(secs => p_seconds)), tokens = 0, refilled_at = clock_timestamp()
  where b.instance_id = p_instance $$;

-- What we hold of one window of created_at, [p_from, p_to) in ms, for an index-only comparison with a page.
create function clerk_private.held(p_kind text, p_from bigint, p_to bigint) returns table (id text, updated_at bigint)
language plpgsql stable set search_path = '' as $$
begin
  if p_kind = 'user' then
    return query select u.id, (extract(epoch from u.updated_at) * 1000)::bigint from clerk.users u
      where u.created_at >= clerk_private.ms(p_from) and u.created_at < clerk_private.ms(p_to);
  elsif p_kind = 'organization' then
    return query select g.id, (extract(epoch from g.updated_at) * 1000)::bigint from clerk.organizations g
      where g.created_at >= clerk_private.ms(p_from) and g.created_at < clerk_private.ms(p_to);
  else
    return query select m.id, (extract(epoch from m.updated_at) * 1000)::bigint from clerk.organization_memberships m
      where m.created_at >= clerk_private.ms(p_from) and m.created_at < clerk_private.ms(p_to);
  end if;
end $$;

-- Typed rows that no live object stands for, with ids in (p_after, p_to] (null: to the end): somebody added them by hand. What
-- waits for its end (clerk_private.burying) is known already.
create function clerk_private.strangers(p_kind text, p_after text, p_to text) returns setof text
language plpgsql stable set search_path = '' as $$
begin
  return query
    select distinct t.id from (
      select u.id from clerk.users u where p_kind = 'user' and u.id > p_after and (p_to is null or u.id <= p_to)
      union all
      select e.user_id from clerk.user_emails e where p_kind = 'user' and e.user_id > p_after and (p_to is null or e.user_id <= p_to)
      union all
      select g.id from clerk.organizations g where p_kind = 'organization' and g.id > p_after and (p_to is null or g.id <= p_to)
      union all
      select m.id from clerk.organization_memberships m
      where p_kind = 'organization_membership' and m.id > p_after and (p_to is null or m.id <= p_to)) t
    where not exists (
        select from clerk_private.objects o
        where o.kind = p_kind and o.id = t.id and o.deleted_at is null
          -- said again for the planner, which would read all objects for every chunk
          and o.id > p_after and (p_to is null or o.id <= p_to))
      and not exists (select from clerk_private.burying b where b.kind = p_kind and b.id = t.id);
end $$;

-- The local comparison, a chunk of objects after p_after: rows that somebody edited, removed or added by hand, and rows that an
-- older projection made. No API is asked.
create function clerk_private.edited(p_kind text, p_after text, p_limit integer, p_projection smallint)
returns table (last_id text, id text, problem text) language plpgsql stable set search_path = '' as $$
declare
  v_last text;
begin
  select max(x.id) into v_last from (
    select o.id from clerk_private.objects o where o.kind = p_kind and o.id > p_after order by o.id limit p_limit) x;
  v_last := coalesce(v_last, (select max(x) from clerk_private.strangers(p_kind, p_after, null) x));
  if v_last is null then
    return;
  end if;
  return query
    select v_last, x.id, x.problem from (
      select o.id, case
          when o.projection is distinct from p_projection then 'projection'
          when o.digest is distinct from case p_kind
            when 'user' then (
              select clerk_private.user_digest(u, array(
                select e from clerk.user_emails e where e.user_id = u.id order by e.id collate "C"))
              from clerk.users u where u.id = o.id)
            when 'organization' then (
              select clerk_private.organization_digest(g) from clerk.organizations g where g.id = o.id)
            else (
              select clerk_private.membership_digest(m) from clerk.organization_memberships m where m.id = o.id)
            end then 'edited'
        end as problem
      from clerk_private.objects o
      where o.kind = p_kind and o.deleted_at is null and o.id > p_after and o.id <= v_last) x
    where x.problem is not null
    union all
    select v_last, x, 'edited' from clerk_private.strangers(p_kind, p_after, v_last) x
    union all
    select v_last, null, null;
end $$;

-- The deep comparison: which of these objects project to something else than what we hold.
create function clerk_private.differing(p_kind text, p_ids text[], p_objects jsonb[]) returns setof text
language plpgsql stable set search_path = '' as $$
begin
  return query
    select x.id from unnest(p_ids, p_objects) x (id, object)
    join clerk_private.objects o on o.kind = p_kind and o.id = x.id and o.deleted_at is null
    where o.digest is distinct from case p_kind
      when 'user' then (select clerk_private.user_digest(p.typed, p.emails) from clerk_private.project_user(x.object) p)
      when 'organization' then (
        select clerk_private.organization_digest(row(p.*)::clerk.organizations) from clerk_private.project_organization(x.object) p)
      else (
        select clerk_private.membership_digest(row(p.*)::clerk.organization_memberships)
        from clerk_private.project_membership(x.object) p)
      end;
end $$;

-- Puts objects' own state back: the raw object with its own version. What was edited by hand is undone, what an older projection
-- made is made anew, what was added is removed.
create function clerk_private.undo_edits(p_run bigint, p_epoch bigint, p_kind text, p_ids text[]) returns text[]
language plpgsql set search_path = '' as $$
declare
  v_strangers text[];
begin
  perform clerk_private.fence(p_run, p_epoch);
  select array_agg(s.id) into v_strangers
  from unnest(p_ids) i (id) cross join lateral (
    select t.id from clerk.users t where p_kind = 'user' and t.id = i.id
    union select e.user_id from clerk.user_emails e where p_kind = 'user' and e.user_id = i.id
    union select t.id from clerk.organizations t where p_kind = 'organization' and t.id = i.id
    union select t.id from clerk.organization_memberships t where p_kind = 'organization_membership' and t.id = i.id) s
  where not exists (select from clerk_private.objects o where o.kind = p_kind and o.id = s.id and o.deleted_at is null)
    and not exists (select from clerk_private.burying b where b.kind = p_kind and b.id = s.id);
  if v_strangers is not null then
    perform clerk_private.remove_rows(p_kind, v_strangers);
  end if;
  return clerk_private.repair(p_run, p_epoch, (
    select array_agg((o.kind, o.id, null, o.updated_at, o.observed_at, o.source_rank, o.svix_id, 'sweep', o.raw)
      ::clerk_private.change)
    from clerk_private.objects o
    where o.kind = p_kind and o.id = any (p_ids) and o.deleted_at is null and o.raw is not null));
end $$;

-- Brings a false tombstone back, if it is still the one that was asked about.
create function clerk_private.revive(p_run bigint, p_epoch bigint, p_change clerk_private.change, p_tombstone_seq bigint) returns text
language plpgsql set search_path = '' as $$
declare
  v_outcomes text[];
begin
  perform clerk_private.fence(p_run, p_epoch);
  perform clerk_private.lock_parents(array[p_change]);
  -- A membership lives only below parents that live; whoever revives these asks for it again.
  if exists (
    select from clerk_private.objects o
    where p_change.kind = 'organization_membership' and o.deleted_at is not null
      and (o.kind, o.id) in (
        ('user', p_change.object -> 'public_user_data' ->> 'user_id'),
        ('organization', p_change.object -> 'organization' ->> 'id'))) then
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
language plpgsql set search_path = '' as $$
declare
  v_outcomes text[];
begin
  perform clerk_private.fence(p_run, p_epoch);
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

-- Deletions by sweeps in the last 24 hours and rows that live, the two numbers that the guard weighs. Cascades count.
create function clerk_private.guard_weights(p_kind text, out deleted bigint, out live bigint)
language plpgsql stable set search_path = '' as $$
begin
  select count(*) into deleted from clerk_private.objects o
  where o.kind = p_kind and o.deleted_at > (extract(epoch from now()) * 1000)::bigint - 86400000 and o.source = 'sweep';
  select count(*) into live from clerk_private.objects o where o.kind = p_kind and o.deleted_at is null;
end $$;

grant execute on function
  clerk_private.fence(bigint, bigint), clerk_private.repair(bigint, bigint, clerk_private.change[]),
  clerk_private.take_budget(text, integer), clerk_private.pause_budget(text, double precision),
  clerk_private.held(text, bigint, bigint), clerk_private.strangers(text, text, text), clerk_private.edited(text, text, integer, smallint),
  clerk_private.differing(text, text[], jsonb[]), clerk_private.undo_edits(bigint, bigint, text, text[]),
  clerk_private.revive(bigint, bigint, clerk_private.change, bigint),
  clerk_private.lower_version(bigint, bigint, clerk_private.change), clerk_private.guard_weights(text),
  clerk_private.maintain(), clerk_private.backlog()
to clerk_reconciler;
reset role;

-- migrate:down
set local role clerk_owner;
drop function clerk_private.guard_weights, clerk_private.lower_version, clerk_private.revive, clerk_private.undo_edits,
  clerk_private.differing, clerk_private.edited, clerk_private.strangers, clerk_private.held, clerk_private.pause_budget, clerk_private.take_budget,
  clerk_private.repair, clerk_private.fence;
revoke execute on function clerk_private.maintain(), clerk_private.backlog() from clerk_reconciler;
reset role;
