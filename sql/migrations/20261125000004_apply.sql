-- migrate:up
-- How an object's new state reaches the mirror, whoever brings it. Order of locks, the same for every writer: buckets of
-- parents, then inbox_seen, then objects by kind (user, organization, membership) and id, each before its typed row.
set local role clerk_owner;

create type clerk_private.change as (
  kind text,
  id text,
  buried_by text,             -- not null: a deletion
  updated_at bigint,          -- the version, see clerk_private.objects; a deletion has none and wins over any
  observed_at bigint,
  source_rank smallint,
  svix_id text collate "C",
  source text,
  object jsonb                -- null for a deletion
);

create function clerk_private.ms(p_ms bigint) returns timestamptz language sql immutable parallel safe as
$$ select pg_catalog.to_timestamp(p_ms / 1000.0) $$;

-- 64 buckets: single keys of a large batch fill the server's lock table.
create function clerk_private.parent_bucket(p_id text) returns integer language sql immutable parallel safe as
$$ select pg_catalog.hashtext(p_id) & 63 $$;

-- The first statement of every writing transaction. A lock and the check that it guards in one statement miss what committed
-- while the lock was waited for: a later statement takes a new snapshot.
create function clerk_private.lock_parents(p_changes clerk_private.change[]) returns void
language plpgsql set search_path = '' as $$
declare
  r record;
begin
  for r in
    with parents as (
      select c.id as parent, true as deletes from unnest(p_changes) c
      where c.buried_by is not null and c.kind in ('user', 'organization')
      union all
      select p.parent, false
      from unnest(p_changes) c
      left join clerk.organization_memberships m on m.id = c.id
      cross join lateral (values
        (coalesce(c.object -> 'public_user_data' ->> 'user_id', m.user_id)),
        (coalesce(c.object -> 'organization' ->> 'id', m.organization_id))) p (parent)
      where c.kind = 'organization_membership' and c.buried_by is null
    )
    select clerk_private.parent_bucket(p.parent) as bucket, bool_or(p.deletes) as deletes
    from parents p where p.parent is not null
    group by 1 order by 1
  loop
    if r.deletes then
      perform pg_catalog.pg_advisory_xact_lock(1852143989, r.bucket);
    else
      perform pg_catalog.pg_advisory_xact_lock_shared(1852143989, r.bucket);
    end if;
  end loop;
end $$;

-- Decides which change of each object wins, and says so for every change of this kind: won, deleted, stale, buried (else null).
-- p_digests runs beside p_changes. Rows are inserted in order of id: two batches cannot wait for each other.
create function clerk_private.arbitrate(
  p_kind text, p_changes clerk_private.change[], p_digests bytea[], p_projection smallint) returns text[]
language plpgsql set search_path = '' as $$
declare
  v_won bigint[];
  v_lost text[];
  v_verdicts text[];
begin
  with candidates as (
    select distinct on (c.id) c.*, bool_or(c.buried_by = 'event') over (partition by c.id) as by_event
    from unnest(p_changes) with ordinality
      as c (kind, id, buried_by, updated_at, observed_at, source_rank, svix_id, source, object, n)
    where c.kind = p_kind
    order by c.id, (c.buried_by is not null) desc, case when c.buried_by is null then c.updated_at end desc,
      c.observed_at desc, c.source_rank desc, c.svix_id collate "C" desc, c.n
  ), written as (
    insert into clerk_private.objects as o
      (kind, id, updated_at, observed_at, source_rank, svix_id, deleted_at, buried_by, tombstone_seq, raw, digest, projection, source)
    select p_kind, c.id,
      case when c.buried_by is null then c.updated_at else 0 end,
      c.observed_at,
      case when c.buried_by is null then c.source_rank else 0 end,
      case when c.buried_by is null then c.svix_id else '' end,
      case when c.buried_by is not null then c.observed_at end,
      case when c.buried_by is not null and c.by_event then 'event' else c.buried_by end,
      case when c.buried_by is not null then pg_catalog.nextval('clerk_private.tombstones') end,
      case when c.buried_by is null then c.object end,
      case when c.buried_by is null then p_digests[c.n] end,
      case when c.buried_by is null then p_projection end,
      c.source
    from candidates c order by c.id
    on conflict (kind, id) do update set
      updated_at = excluded.updated_at,
      observed_at = greatest(excluded.observed_at, o.deleted_at),
      source_rank = excluded.source_rank,
      svix_id = excluded.svix_id,
      deleted_at = greatest(excluded.deleted_at, o.deleted_at),
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
        and (excluded.updated_at, excluded.observed_at, excluded.source_rank, excluded.svix_id)
            >= (o.updated_at, o.observed_at, o.source_rank, o.svix_id)
      end
    returning o.id
  )
  select array_agg(c.n) filter (where w.id is not null), array_agg(c.id) filter (where w.id is null)
  into v_won, v_lost
  from candidates c left join written w on w.id = c.id;

  -- A deletion that a revival made stale must not hide an update of its batch: judge that one by itself.
  if v_lost is not null and exists (
    select from unnest(p_changes) c where c.kind = p_kind and c.id = any (v_lost) and c.buried_by is not null) then
    select array_agg(case when u.verdict = 'won' then u.verdict end order by u.n) into v_verdicts
    from unnest(clerk_private.arbitrate(p_kind, (
      select array_agg(case when c.kind = p_kind and c.id = any (v_lost) and c.buried_by is null
        then (c.kind, c.id, c.buried_by, c.updated_at, c.observed_at, c.source_rank, c.svix_id, c.source, c.object)
             ::clerk_private.change end order by c.n)
      from unnest(p_changes) with ordinality
        as c (kind, id, buried_by, updated_at, observed_at, source_rank, svix_id, source, object, n)
    ), p_digests, p_projection)) with ordinality as u (verdict, n);
  end if;

  return (
    select array_agg(case
      when c.kind is distinct from p_kind then null
      when c.n = any (v_won) then case when c.buried_by is null then 'won' else 'deleted' end
      when v_verdicts[c.n] is not null then v_verdicts[c.n]
      when t.id is not null then 'buried'
      else 'stale' end order by c.n)
    from unnest(p_changes) with ordinality
      as c (kind, id, buried_by, updated_at, observed_at, source_rank, svix_id, source, object, n)
    left join (
      select o.id from clerk_private.objects o
      where o.kind = p_kind and o.deleted_at is not null and o.id = any (
        select x.id from unnest(p_changes) x where x.kind = p_kind)
    ) t on t.id = c.id);
end $$;

-- Takes typed rows away. What others hang on them must not hold a deletion up, be it a foreign key or a transaction that is
-- about to refer to them: such a row is emptied, hidden, tried again.
create function clerk_private.remove_rows(p_kind text, p_ids text[]) returns void
language plpgsql set search_path = '' as $$
declare
  v_patience constant text := pg_catalog.current_setting('lock_timeout');
  v_id text;
  v_constraint text;
  v_column text;
begin
  begin
    perform pg_catalog.set_config('lock_timeout', '250ms', true);
    if p_kind = 'user' then
      delete from clerk.user_emails e where e.user_id = any (p_ids);
      delete from clerk.users u where u.id = any (p_ids);
    elsif p_kind = 'organization' then
      delete from clerk.organizations g where g.id = any (p_ids);
    else
      delete from clerk.organization_memberships m where m.id = any (p_ids);
    end if;
    perform pg_catalog.set_config('lock_timeout', v_patience, true);
    set constraints all immediate;
    delete from clerk_private.burying b where b.kind = p_kind and b.id = any (p_ids) and b.reason = 'foreign key';
    return;
  -- The whole class: ON DELETE RESTRICT has a code of its own from 18 on, SET NULL may meet NOT NULL.
  exception when integrity_constraint_violation or lock_not_available then
    get stacked diagnostics v_constraint = constraint_name, v_column = column_name;
  end;
  if cardinality(p_ids) > 1 then
    foreach v_id in array p_ids loop
      perform clerk_private.remove_rows(p_kind, array[v_id]);
    end loop;
    return;
  end if;

  update clerk_private.burying b set attempts = b.attempts + 1, constraint_name = coalesce(nullif(v_constraint, ''), nullif(v_column, ''))
  where b.kind = p_kind and b.id = p_ids[1] and b.reason = 'foreign key';
  if found then
    return;
  end if;
  insert into clerk_private.burying (kind, id, reason, constraint_name, attempts)
  values (p_kind, p_ids[1], 'foreign key', coalesce(nullif(v_constraint, ''), nullif(v_column, '')), 1);
  if p_kind = 'user' then
    begin
      delete from clerk.user_emails e where e.user_id = p_ids[1];
    exception when integrity_constraint_violation or lock_not_available then
      update clerk.user_emails e set email = '', verified = false, is_primary = false where e.user_id = p_ids[1];
    end;
    update clerk.users u set primary_email = null, primary_email_verified = false, primary_phone = null, username = null,
      first_name = null, last_name = null, image_url = null, external_id = null, locale = null, public_metadata = '{}',
      banned = false, locked = false, two_factor_enabled = false, last_sign_in_at = null
    where u.id = p_ids[1];
  elsif p_kind = 'organization' then
    update clerk.organizations g set name = '', slug = null, image_url = null, max_allowed_memberships = null,
      public_metadata = '{}', created_by = null
    where g.id = p_ids[1];
  else
    update clerk.organization_memberships m set role = '', permissions = '{}', public_metadata = '{}' where m.id = p_ids[1];
  end if;
end $$;

-- ---------------------------------------------------------------- users
-- Of what is stable, in a form that no setting of the session changes (a double's digits, a time's zone).
create function clerk_private.user_digest(u clerk.users, e clerk.user_emails[]) returns bytea
language sql stable parallel safe as $$
  select pg_catalog.sha256(pg_catalog.convert_to(row(u.id, u.primary_email, u.primary_email_verified, u.primary_phone, u.username,
    u.first_name, u.last_name, u.external_id, u.locale, u.public_metadata, u.banned, u.locked, u.two_factor_enabled,
    extract(epoch from u.created_at), extract(epoch from u.updated_at), e)::text, 'UTF8')) $$;

create function clerk_private.project_user(p_object jsonb) returns table (typed clerk.users, emails clerk.user_emails[])
language sql stable parallel safe as $$
  select row(
      p_object ->> 'id',
      mail.e ->> 'email_address',
      coalesce(mail.e -> 'verification' ->> 'status' = 'verified', false),
      phone.p ->> 'phone_number',
      p_object ->> 'username',
      p_object ->> 'first_name',
      p_object ->> 'last_name',
      p_object ->> 'image_url',
      p_object ->> 'external_id',
      p_object ->> 'locale',
      coalesce(nullif(p_object -> 'public_metadata', 'null'), '{}'),
      coalesce((p_object ->> 'banned')::boolean, false),
      coalesce((p_object ->> 'locked')::boolean, false),
      coalesce((p_object ->> 'two_factor_enabled')::boolean, false),
      clerk_private.ms((p_object ->> 'last_sign_in_at')::bigint),
      clerk_private.ms((p_object ->> 'created_at')::bigint),
      clerk_private.ms((p_object ->> 'updated_at')::bigint)
    )::clerk.users,
    (select coalesce(array_agg(row(
        p_object ->> 'id',
        coalesce(x ->> 'id', x ->> 'email_address'),
        x ->> 'email_address',
        coalesce(x -> 'verification' ->> 'status' = 'verified', false),
        coalesce(x ->> 'id' = p_object ->> 'primary_email_address_id', false)
      )::clerk.user_emails order by coalesce(x ->> 'id', x ->> 'email_address') collate "C"), '{}')
     from jsonb_array_elements(nullif(p_object -> 'email_addresses', 'null')) x)
  from (select) one
  left join lateral (
    select x as e from jsonb_array_elements(nullif(p_object -> 'email_addresses', 'null')) x
    where x ->> 'id' = p_object ->> 'primary_email_address_id' limit 1) mail on true
  left join lateral (
    select x as p from jsonb_array_elements(nullif(p_object -> 'phone_numbers', 'null')) x
    where x ->> 'id' = p_object ->> 'primary_phone_number_id' limit 1) phone on true $$;

create type clerk_private.projected_user as (typed clerk.users, emails clerk.user_emails[]);

create function clerk_private.apply_users(p_changes clerk_private.change[]) returns text[]
language plpgsql set search_path = '' as $$
declare
  v_projected clerk_private.projected_user[];
  v_digests bytea[];
  v_verdicts text[];
  v_ids text[];
  v_written jsonb;
begin
  select array_agg((p.typed, p.emails)::clerk_private.projected_user order by c.n),
    array_agg(clerk_private.user_digest(p.typed, p.emails) order by c.n)
  into v_projected, v_digests
  from unnest(p_changes) with ordinality
    as c (kind, id, buried_by, updated_at, observed_at, source_rank, svix_id, source, object, n)
  left join lateral clerk_private.project_user(c.object) p on c.kind = 'user' and c.buried_by is null;

  v_verdicts := clerk_private.arbitrate('user', p_changes, v_digests, 1::smallint);

  -- Statements of their own: this one's snapshot must see the row that a writer before us committed while we waited for it.
  select array_agg(c.id order by c.id) into v_ids
  from unnest(p_changes) with ordinality
    as c (kind, id, buried_by, updated_at, observed_at, source_rank, svix_id, source, object, n)
  where v_verdicts[c.n] = 'deleted';
  if v_ids is not null then
    perform clerk_private.remove_rows('user', v_ids);
  end if;

  with won as (
    select (p.typed).* from unnest(v_projected) with ordinality as p (typed, emails, n) where v_verdicts[p.n] = 'won'
  ), written as (
    insert into clerk.users as u
    select w.* from won w order by w.id
    on conflict (id) do update set
      primary_email = excluded.primary_email, primary_email_verified = excluded.primary_email_verified,
      primary_phone = excluded.primary_phone, username = excluded.username, first_name = excluded.first_name,
      last_name = excluded.last_name, image_url = excluded.image_url, external_id = excluded.external_id,
      locale = excluded.locale, public_metadata = excluded.public_metadata, banned = excluded.banned,
      locked = excluded.locked, two_factor_enabled = excluded.two_factor_enabled,
      last_sign_in_at = excluded.last_sign_in_at, created_at = excluded.created_at, updated_at = excluded.updated_at
    where (u.*) is distinct from (excluded.*)
    returning u.id, xmax = 0 as fresh
  )
  select jsonb_object_agg(w.id, w.fresh) into v_written from written w;

  with won as (
    select (p.typed).id, p.emails from unnest(v_projected) with ordinality as p (typed, emails, n) where v_verdicts[p.n] = 'won'
  ), gone as (
    delete from clerk.user_emails d using won w
    where d.user_id = w.id and not exists (select from unnest(w.emails) e where e.id = d.id)
  )
  insert into clerk.user_emails as e
  select distinct on (x.user_id, x.id) x.* from won w cross join lateral unnest(w.emails) x order by x.user_id, x.id
  on conflict (user_id, id) do update set
    email = excluded.email, verified = excluded.verified, is_primary = excluded.is_primary
  where (e.*) is distinct from (excluded.*);

  return clerk_private.outcomes(p_changes, v_verdicts, v_written);
end $$;

-- What each change came to: won becomes created, updated or unchanged, by what happened to the typed row.
create function clerk_private.outcomes(p_changes clerk_private.change[], p_verdicts text[], p_written jsonb) returns text[]
language sql stable as $$
  select array_agg(case
    when p_verdicts[c.n] is distinct from 'won' then p_verdicts[c.n]
    when (p_written -> c.id) is null then 'unchanged'
    when (p_written ->> c.id)::boolean then 'created'
    else 'updated' end order by c.n)
  from unnest(p_changes) with ordinality
    as c (kind, id, buried_by, updated_at, observed_at, source_rank, svix_id, source, object, n) $$;

-- ---------------------------------------------------------------- organizations
create function clerk_private.organization_digest(g clerk.organizations) returns bytea
language sql stable parallel safe as $$
  select pg_catalog.sha256(pg_catalog.convert_to(row(g.id, g.name, g.slug, g.max_allowed_memberships, g.public_metadata,
    g.created_by, extract(epoch from g.created_at), extract(epoch from g.updated_at))::text, 'UTF8')) $$;

create function clerk_private.project_organization(p_object jsonb) returns setof clerk.organizations
language sql stable parallel safe as $$
  select
    p_object ->> 'id',
    p_object ->> 'name',
    p_object ->> 'slug',
    p_object ->> 'image_url',
    (p_object ->> 'max_allowed_memberships')::bigint,
    coalesce(nullif(p_object -> 'public_metadata', 'null'), '{}'),
    p_object ->> 'created_by',
    clerk_private.ms((p_object ->> 'created_at')::bigint),
    clerk_private.ms((p_object ->> 'updated_at')::bigint) $$;

create function clerk_private.apply_organizations(p_changes clerk_private.change[]) returns text[]
language plpgsql set search_path = '' as $$
declare
  v_typed clerk.organizations[];
  v_digests bytea[];
  v_verdicts text[];
  v_ids text[];
  v_written jsonb;
begin
  select array_agg(row(p.*)::clerk.organizations order by c.n),
    array_agg(clerk_private.organization_digest(row(p.*)::clerk.organizations) order by c.n)
  into v_typed, v_digests
  from unnest(p_changes) with ordinality
    as c (kind, id, buried_by, updated_at, observed_at, source_rank, svix_id, source, object, n)
  left join lateral clerk_private.project_organization(c.object) p on c.kind = 'organization' and c.buried_by is null;

  v_verdicts := clerk_private.arbitrate('organization', p_changes, v_digests, 1::smallint);

  select array_agg(c.id order by c.id) into v_ids
  from unnest(p_changes) with ordinality
    as c (kind, id, buried_by, updated_at, observed_at, source_rank, svix_id, source, object, n)
  where v_verdicts[c.n] = 'deleted';
  if v_ids is not null then
    perform clerk_private.remove_rows('organization', v_ids);
  end if;

  with written as (
    insert into clerk.organizations as g
    select w.id, w.name, w.slug, w.image_url, w.max_allowed_memberships, w.public_metadata, w.created_by, w.created_at, w.updated_at
    from unnest(v_typed) with ordinality
      as w (id, name, slug, image_url, max_allowed_memberships, public_metadata, created_by, created_at, updated_at, n)
    where v_verdicts[w.n] = 'won' order by w.id
    on conflict (id) do update set
      name = excluded.name, slug = excluded.slug, image_url = excluded.image_url,
      max_allowed_memberships = excluded.max_allowed_memberships, public_metadata = excluded.public_metadata,
      created_by = excluded.created_by, created_at = excluded.created_at, updated_at = excluded.updated_at
    where (g.*) is distinct from (excluded.*)
    returning g.id, xmax = 0 as fresh
  )
  select jsonb_object_agg(w.id, w.fresh) into v_written from written w;

  return clerk_private.outcomes(p_changes, v_verdicts, v_written);
end $$;

-- ---------------------------------------------------------------- memberships
create function clerk_private.membership_digest(m clerk.organization_memberships) returns bytea
language sql stable parallel safe as $$
  select pg_catalog.sha256(pg_catalog.convert_to(row(m.id, m.organization_id, m.user_id, m.role, m.permissions, m.public_metadata,
    extract(epoch from m.created_at), extract(epoch from m.updated_at))::text, 'UTF8')) $$;

-- The embedded user and organization give their ids and nothing else: they are snapshots of unknown age.
create function clerk_private.project_membership(p_object jsonb) returns setof clerk.organization_memberships
language sql stable parallel safe as $$
  select
    p_object ->> 'id',
    p_object -> 'organization' ->> 'id',
    p_object -> 'public_user_data' ->> 'user_id',
    p_object ->> 'role',
    (select coalesce(array_agg(x), '{}') from jsonb_array_elements_text(nullif(p_object -> 'permissions', 'null')) x),
    coalesce(nullif(p_object -> 'public_metadata', 'null'), '{}'),
    clerk_private.ms((p_object ->> 'created_at')::bigint),
    clerk_private.ms((p_object ->> 'updated_at')::bigint) $$;

-- A change without its user or organization is completed from its batch or the row that we hold; else its verdict is incomplete.
-- One that arrives for a tombstoned parent is buried.
create function clerk_private.apply_memberships(p_changes clerk_private.change[]) returns text[]
language plpgsql set search_path = '' as $$
declare
  v_changes clerk_private.change[];
  v_typed clerk.organization_memberships[];
  v_digests bytea[];
  v_verdicts text[];
  v_ids text[];
  v_written jsonb;
begin
  with completed as (
    select c.*,
      -- What a membership joins never changes: any event of the batch may say it for the others.
      coalesce(c.object -> 'public_user_data' ->> 'user_id', m.user_id,
        max(c.object -> 'public_user_data' ->> 'user_id') over (partition by c.id)) as user_id,
      coalesce(c.object -> 'organization' ->> 'id', m.organization_id,
        max(c.object -> 'organization' ->> 'id') over (partition by c.id)) as organization_id,
      c.object -> 'public_user_data' ->> 'user_id' is not null and c.object -> 'organization' ->> 'id' is not null as is_whole
    from unnest(p_changes) with ordinality
      as c (kind, id, buried_by, updated_at, observed_at, source_rank, svix_id, source, object, n)
    left join clerk.organization_memberships m on m.id = c.id and c.buried_by is null
    where c.kind = 'organization_membership'
  ), judged as (
    select c.*, (
      select max(o.deleted_at) from clerk_private.objects o
      where c.buried_by is null and o.deleted_at is not null
        and (o.kind, o.id) in (('user', c.user_id), ('organization', c.organization_id))) as parent_deleted_at
    from completed c
  )
  select array_agg(case
      when j.buried_by is not null then
        (j.kind, j.id, j.buried_by, 0, j.observed_at, 0::smallint, '', j.source, null)::clerk_private.change
      when (j.user_id is null or j.organization_id is null) and not exists (
        select from clerk_private.objects o   -- of one that is gone: late, not incomplete
        where o.kind = j.kind and o.id = j.id and o.deleted_at is not null) then null
      when j.parent_deleted_at is not null then
        (j.kind, j.id, 'parent', 0, j.parent_deleted_at, 0::smallint, '', j.source, null)::clerk_private.change
      when j.n is not null then
        (j.kind, j.id, null, j.updated_at, j.observed_at, j.source_rank, j.svix_id, j.source,
         case when j.is_whole then j.object else j.object
           || jsonb_build_object('organization', jsonb_build_object('id', j.organization_id))
           || jsonb_build_object('public_user_data', jsonb_build_object('user_id', j.user_id)) end
        )::clerk_private.change
      end order by g.n)
  into v_changes
  from generate_series(1, cardinality(p_changes)) g (n)
  left join judged j on j.n = g.n;

  select array_agg(row(p.*)::clerk.organization_memberships order by c.n),
    array_agg(clerk_private.membership_digest(row(p.*)::clerk.organization_memberships) order by c.n)
  into v_typed, v_digests
  from unnest(v_changes) with ordinality
    as c (kind, id, buried_by, updated_at, observed_at, source_rank, svix_id, source, object, n)
  left join lateral clerk_private.project_membership(c.object) p on c.kind is not null and c.buried_by is null;

  v_verdicts := clerk_private.arbitrate('organization_membership', v_changes, v_digests, 1::smallint);

  select array_agg(c.id order by c.id) into v_ids
  from unnest(v_changes) with ordinality
    as c (kind, id, buried_by, updated_at, observed_at, source_rank, svix_id, source, object, n)
  where v_verdicts[c.n] = 'deleted';
  if v_ids is not null then
    perform clerk_private.remove_rows('organization_membership', v_ids);
  end if;

  with written as (
    insert into clerk.organization_memberships as m
    select w.id, w.organization_id, w.user_id, w.role, w.permissions, w.public_metadata, w.created_at, w.updated_at
    from unnest(v_typed) with ordinality
      as w (id, organization_id, user_id, role, permissions, public_metadata, created_at, updated_at, n)
    where v_verdicts[w.n] = 'won' order by w.id
    on conflict (id) do update set
      organization_id = excluded.organization_id, user_id = excluded.user_id, role = excluded.role,
      permissions = excluded.permissions, public_metadata = excluded.public_metadata,
      created_at = excluded.created_at, updated_at = excluded.updated_at
    where (m.*) is distinct from (excluded.*)
    returning m.id, xmax = 0 as fresh
  )
  select jsonb_object_agg(w.id, w.fresh) into v_written from written w;

  return (
    select array_agg(case
      when c.kind is distinct from 'organization_membership' then null
      when v_changes[c.n] is null then 'incomplete'
      when v_verdicts[c.n] = 'deleted' and c.buried_by is null then 'buried'
      else x.outcome end order by c.n)
    from unnest(p_changes) with ordinality
      as c (kind, id, buried_by, updated_at, observed_at, source_rank, svix_id, source, object, n)
    join unnest(clerk_private.outcomes(v_changes, v_verdicts, v_written)) with ordinality as x (outcome, n) on x.n = c.n);
end $$;

-- The children of parents that were just deleted, as changes that bury them: p_most of them at once. A parent with more, or one
-- that comes after p_most, is left to clerk_private.bury(), chunk by chunk; until then every policy hides what is below it.
create function clerk_private.cascade(p_changes clerk_private.change[], p_outcomes text[], p_most integer) returns clerk_private.change[]
language plpgsql set search_path = '' as $$
declare
  v_children clerk_private.change[];
begin
  with parents as (
    select c.kind, c.id, c.observed_at, c.source from unnest(p_changes) with ordinality
      as c (kind, id, buried_by, updated_at, observed_at, source_rank, svix_id, source, object, n)
    where p_outcomes[c.n] = 'deleted' and c.kind in ('user', 'organization')
  ), children as (
    select p.kind as parent_kind, p.id as parent, m.id, p.observed_at, p.source
    from parents p cross join lateral (
      (select m.id from clerk.organization_memberships m where p.kind = 'organization' and m.organization_id = p.id
       order by m.organization_id, m.user_id limit p_most + 1)
      union all
      (select m.id from clerk.organization_memberships m where p.kind = 'user' and m.user_id = p.id
       order by m.user_id, m.organization_id limit p_most + 1)) m
  ), counted as (
    select c.*, count(*) over (order by c.parent_kind, c.parent) > p_most as large from children c  -- peers included
  ), marked as (
    insert into clerk_private.burying (kind, id, reason)
    select distinct c.parent_kind, c.parent, 'cascade' from counted c where c.large
    on conflict (kind, id, reason) do nothing
  )
  select array_agg(('organization_membership', c.id, 'parent', 0, c.observed_at, 0::smallint, '', c.source, null)
    ::clerk_private.change) into v_children
  from counted c where not c.large;
  return v_children;
end $$;

-- Applies changes of any kinds and says, for each, what it came to: created, updated, unchanged, stale, deleted, buried,
-- incomplete. The caller has called lock_parents() in a statement before.
create function clerk_private.apply(p_changes clerk_private.change[], p_cascade_most integer default 5000) returns text[]
language plpgsql set search_path = '' as $$
declare
  v_outcomes text[];
  v_children clerk_private.change[];
  v_kinds text[] := array(select distinct c.kind from unnest(p_changes) c where c.kind is not null);
begin
  if 'user' = any (v_kinds) then
    v_outcomes := clerk_private.apply_users(p_changes);
  end if;
  if 'organization' = any (v_kinds) then
    v_outcomes := clerk_private.merged(v_outcomes, clerk_private.apply_organizations(p_changes));
  end if;
  if 'deleted' = any (v_outcomes) then
    v_children := clerk_private.cascade(p_changes, v_outcomes, p_cascade_most);
  end if;
  if 'organization_membership' = any (v_kinds) or v_children is not null then
    v_outcomes := clerk_private.merged(v_outcomes, clerk_private.apply_memberships(p_changes || v_children));
  end if;
  return v_outcomes[1:cardinality(p_changes)];
end $$;

create function clerk_private.merged(p_a text[], p_b text[]) returns text[] language sql immutable as
$$ select array_agg(coalesce(b.x, p_a[b.n]) order by b.n) from unnest(p_b) with ordinality b (x, n) $$;

-- Goes on with what one transaction could not finish: a chunk of one parent's children, or else what foreign keys held. Answers
-- how much it got done; 0: nothing more can be done now. Called by the webhook service, now and then.
-- It never waits for an arbiter row while it holds another out of order: who is being written to is left for the next time.
create function clerk_private.bury(p_chunk integer default 2000) returns bigint
language plpgsql set search_path = '' as $$
declare
  r record;
  v_children clerk_private.change[];
  v_done bigint := 0;
begin
  if not pg_catalog.pg_try_advisory_xact_lock(1852143991, 0) then
    return 0;
  end if;

  -- What was revived is not buried any more.
  delete from clerk_private.burying b using clerk_private.objects o
  where o.kind = b.kind and o.id = b.id and o.deleted_at is null;
  get diagnostics v_done = row_count;

  select b.kind, b.id, o.deleted_at into r
  from clerk_private.burying b join clerk_private.objects o on o.kind = b.kind and o.id = b.id
  where b.reason = 'cascade' and o.deleted_at is not null
  order by b.since, b.kind, b.id limit 1 for update of o skip locked;
  if found then
    select array_agg(('organization_membership', m.id, 'parent', 0, r.deleted_at, 0::smallint, '', 'cascade', null)
      ::clerk_private.change)
    into v_children
    from (
      select m.id from clerk.organization_memberships m
      where (r.kind = 'user' and m.user_id = r.id or r.kind = 'organization' and m.organization_id = r.id)
        and not exists (select from clerk_private.burying h where h.kind = 'organization_membership' and h.id = m.id)
        and not exists (
          select from clerk_private.objects o
          where o.kind = 'organization_membership' and o.id = m.id and o.revived_at >= r.deleted_at)
      limit p_chunk) m;
    if v_children is not null then
      perform clerk_private.apply_memberships(v_children);
      return v_done + cardinality(v_children);
    end if;
    delete from clerk_private.burying b where b.kind = r.kind and b.id = r.id and b.reason = 'cascade';
    return v_done + 1;
  end if;

  for r in
    select b.kind, b.id
    from clerk_private.burying b join clerk_private.objects o on o.kind = b.kind and o.id = b.id
    where b.reason = 'foreign key' and o.deleted_at is not null
    order by b.attempts, b.since, b.kind, b.id limit 50 for update of o skip locked
  loop
    perform clerk_private.remove_rows(r.kind, array[r.id]);
    if not exists (
      select from clerk_private.burying b where b.kind = r.kind and b.id = r.id and b.reason = 'foreign key') then
      v_done := v_done + 1;
    end if;
  end loop;
  return v_done;
end $$;

grant usage on type clerk_private.change to clerk_writer;
grant execute on function
  clerk_private.ms(bigint), clerk_private.parent_bucket(text), clerk_private.lock_parents(clerk_private.change[]),
  clerk_private.arbitrate(text, clerk_private.change[], bytea[], smallint), clerk_private.remove_rows(text, text[]),
  clerk_private.user_digest(clerk.users, clerk.user_emails[]), clerk_private.project_user(jsonb),
  clerk_private.apply_users(clerk_private.change[]), clerk_private.outcomes(clerk_private.change[], text[], jsonb),
  clerk_private.organization_digest(clerk.organizations), clerk_private.project_organization(jsonb),
  clerk_private.apply_organizations(clerk_private.change[]), clerk_private.membership_digest(clerk.organization_memberships),
  clerk_private.project_membership(jsonb), clerk_private.apply_memberships(clerk_private.change[]),
  clerk_private.cascade(clerk_private.change[], text[], integer), clerk_private.apply(clerk_private.change[], integer),
  clerk_private.merged(text[], text[]), clerk_private.bury(integer)
to clerk_writer;
reset role;

-- migrate:down
set local role clerk_owner;
drop function clerk_private.bury, clerk_private.merged, clerk_private.apply, clerk_private.cascade,
  clerk_private.apply_memberships, clerk_private.project_membership, clerk_private.membership_digest,
  clerk_private.apply_organizations, clerk_private.project_organization, clerk_private.organization_digest,
  clerk_private.outcomes, clerk_private.apply_users, clerk_private.project_user, clerk_private.user_digest,
  clerk_private.remove_rows, clerk_private.arbitrate, clerk_private.lock_parents, clerk_private.parent_bucket, clerk_private.ms;
drop type clerk_private.projected_user, clerk_private.change;
reset role;
