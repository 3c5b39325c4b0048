-- migrate:up
-- How an object's new state reaches the mirror, whoever brings it. What is particular to a kind is made from one template by
-- define_entity(); everything else is written once. Order of locks, the same for every writer: buckets of parents, then inbox_seen,
-- then the guard's rows by kind, then objects by rank of their kind and by id, each before its typed row.
--
-- A caller's temporary type or table must not stand for one of ours: pg_temp comes last in every path.
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

-- A database or a login may have other defaults, and a pooler may drop what a session asked for.
create function clerk_private.refuse_session() returns void
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'the transaction is %: nexus-auth writes in READ COMMITTED only', upper(current_setting('transaction_isolation'))
      using errcode = 'NX003', hint = 'Set default_transaction_isolation to read committed for this login.';
  end if;
  if current_setting('synchronous_commit') not in ('on', 'remote_apply') then
    raise exception 'synchronous_commit is %: an acknowledged event could be lost', current_setting('synchronous_commit')
      using errcode = 'NX003', hint = 'Set synchronous_commit to on for this login.';
  end if;
end $$;

-- ---------------------------------------------------------------- what a kind is

-- The owner's functions are for those that run as the definer, and for nobody else unless a grant says so.
create function clerk_private.grant_definer() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  v_function regprocedure;
begin
  for v_function in
    select f.oid::regprocedure from pg_proc f
    where f.pronamespace = 'clerk_private'::regnamespace and f.proowner = current_user::regrole
  loop
    execute format('grant execute on function %s to clerk_definer', v_function);
  end loop;
end $$;

-- A template with each {name} replaced.
create function clerk_private.filled(p_template text, p_parts jsonb) returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp as $$
declare
  r record;
begin
  for r in select * from jsonb_each_text(p_parts) loop
    p_template := replace(p_template, '{' || r.key || '}', r.value);
  end loop;
  return p_template;
end $$;

-- How UPDATE empties a column: null, else its default, else the type's own nothing.
create function clerk_private.emptied(a pg_catalog.pg_attribute) returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
  select format('%I = %s', a.attname, case
    when not a.attnotnull then 'null'
    when a.atthasdef then 'default'
    when a.atttypid = 'boolean'::regtype then 'false'
    when a.atttypid in ('bigint'::regtype, 'integer'::regtype) then '0'
    else quote_literal('') end) $$;

-- Declares a kind, or declares it anew after its table or its projection changed. It makes, from one template:
--   digest_<kind>     of what is stable, in a form that no setting of the session changes
--   completed_<kind>  where the kind has parents: a change that lacks one is completed, a new object below a tombstone is buried
--   apply_<kind>      decides, writes the typed rows, answers outcomes
--   empty_<kind>      takes everything personal out of a row that a foreign key holds
-- besides row security, the sweep's index and the views of all typed rows. There before: the table, with id, created_at and
-- updated_at, and project_<kind>(jsonb); with details (rows that are part of the object: p_details_owner and an id are their key)
-- also project_<kind>_details(jsonb). p_parents: [{"kind", "column", "path"}]; p_volatile: columns that may change without Clerk's
-- updated_at, such as addresses of images; p_one_per_parents: Clerk has at most one object for each combination of parents.
create function clerk_private.define_entity(
  p_kind text, p_table text, p_rank integer, p_projection integer, p_parents jsonb default '[]', p_volatile text[] default '{}',
  p_details text default null, p_details_owner text default null, p_one_per_parents boolean default false) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $define$
declare
  v_parts jsonb;
  v_table text;
begin
  insert into clerk_private.entities (kind, table_name, rank, projection, details, details_owner, one_per_parents)
  values (p_kind, p_table, p_rank, p_projection, p_details, p_details_owner, p_one_per_parents)
  on conflict (kind) do update set table_name = excluded.table_name, rank = excluded.rank, projection = excluded.projection,
    details = excluded.details, details_owner = excluded.details_owner, one_per_parents = excluded.one_per_parents;
  delete from clerk_private.entity_parents where kind = p_kind;
  insert into clerk_private.entity_parents (kind, parent_kind, column_name, path, position)
  select p_kind, p.x ->> 'kind', p.x ->> 'column', array(select jsonb_array_elements_text(p.x -> 'path')), p.ordinality
  from jsonb_array_elements(p_parents) with ordinality as p (x);
  insert into clerk_private.guard_limits (kind) values (p_kind) on conflict do nothing;

  foreach v_table in array array_remove(array[p_table, p_details], null) loop
    execute format('alter table clerk.%I enable row level security', v_table);
    execute format('drop policy if exists %I on clerk.%I', v_table || '_definer', v_table);
    execute format('create policy %I on clerk.%I for all to clerk_definer using (true) with check (true)', v_table || '_definer', v_table);
    execute format('drop policy if exists %I on clerk.%I', v_table || '_reconcile', v_table);
    execute format('create policy %I on clerk.%I for select to clerk_reconciler, clerk_cli using (true)', v_table || '_reconcile', v_table);
    execute format('grant select, insert, update, delete on clerk.%I to clerk_definer', v_table);
    execute format('grant select on clerk.%I to clerk_reconciler, clerk_cli', v_table);
  end loop;
  execute format('create index if not exists %I on clerk.%I (created_at) include (id, updated_at)', p_table || '_sweep', p_table);

  select jsonb_build_object(
    'columns', string_agg(format('%I', a.attname), ', ' order by a.attnum),
    'row', string_agg(format('w.%I', a.attname), ', ' order by a.attnum),
    'stable', string_agg(case
      when a.attname = any (p_volatile) then null
      when a.atttypid = 'timestamptz'::regtype then format('extract(epoch from r.%I)', a.attname)
      else format('r.%I', a.attname) end, ', ' order by a.attnum),
    'sets', string_agg(case when a.attname <> 'id' then format('%1$I = excluded.%1$I', a.attname) end, ', ' order by a.attnum),
    'empty', string_agg(case
      when a.attname in ('id', 'created_at', 'updated_at')
        or a.attname in (select x ->> 'column' from jsonb_array_elements(p_parents) x) then null
      else clerk_private.emptied(a) end, ', ' order by a.attnum))
  into v_parts
  from pg_attribute a where a.attrelid = format('clerk.%I', p_table)::regclass and a.attnum > 0 and not a.attisdropped;

  v_parts := v_parts || jsonb_build_object('kind', p_kind, 'table', p_table, 'projection', p_projection);

  if p_parents <> '[]' then
    v_parts := v_parts || (
      select jsonb_build_object(
        'parents', string_agg(format(
          'coalesce(c.object #>> %2$L, t.%1$I, max(c.object #>> %2$L) over (partition by c.kind, c.id)) as parent_%3$s,
           c.object #>> %2$L is not null as told_%3$s', p.column_name, p.path, p.position), ', ' order by p.position),
        'moved', string_agg(format('c.object #>> %2$L <> t.%1$I', p.column_name, p.path), ' or ' order by p.position),
        'lacks', string_agg(format('j.parent_%s is null', p.position), ' or ' order by p.position),
        'whole', string_agg(format('j.told_%s', p.position), ' and ' order by p.position),
        'same', string_agg(format('o.%1$I = n.%1$I', p.column_name), ' and ' order by p.position),
        'pairs', string_agg(format('(%L, c.parent_%s)', p.parent_kind, p.position), ', ' order by p.position),
        'merged', string_agg(' || ' || (
            select string_agg(format('jsonb_build_object(%L, ', e.member), '' order by e.ordinality)
            from unnest(p.path) with ordinality as e (member))
          || format('j.parent_%s', p.position) || repeat(')', cardinality(p.path)), '' order by p.position))
      from clerk_private.entity_parents p where p.kind = p_kind);
  end if;

  if p_details is not null then
    v_parts := v_parts || (
      select jsonb_build_object('details', p_details, 'owner', p_details_owner,
        'detail_sets', string_agg(format('%1$I = excluded.%1$I', a.attname), ', ' order by a.attnum),
        'detail_empty', string_agg(clerk_private.emptied(a), ', ' order by a.attnum))
      from pg_attribute a where a.attrelid = format('clerk.%I', p_details)::regclass and a.attnum > 0 and not a.attisdropped
        and a.attname not in ('id', p_details_owner));
  end if;

  execute clerk_private.filled(replace(replace($template$
    create or replace function clerk_private.digest_{kind}(r clerk.{table}@parameter@) returns bytea
    language sql stable parallel safe as $body$
      select pg_catalog.sha256(pg_catalog.convert_to(row({stable}@argument@)::text, 'UTF8')) $body$
  $template$, '@parameter@', case when p_details is null then '' else ', d clerk.{details}[]' end),
    '@argument@', case when p_details is null then '' else ', d' end), v_parts);

  execute clerk_private.filled(replace($template$
    create or replace function clerk_private.empty_{kind}(p_id text) returns void
    language plpgsql set search_path = pg_catalog, pg_temp as $body$
    begin
      update clerk.{table} t set {empty} where t.id = p_id;@details@
    end $body$
  $template$, '@details@', case when p_details is null then '' else $template$
      begin
        delete from clerk.{details} d where d.{owner} = p_id;
      exception when integrity_constraint_violation or lock_not_available then
        update clerk.{details} d set {detail_empty} where d.{owner} = p_id;
      end;$template$ end), v_parts);

  if p_parents <> '[]' then
    execute clerk_private.filled($template$
      create or replace function clerk_private.completed_{kind}(p_changes clerk_private.change[]) returns clerk_private.change[]
      language plpgsql stable set search_path = pg_catalog, pg_temp as $body$
      begin
        return (
          with completed as (
            -- What an object belongs to never changes: any event of the batch may say it for the others, and an event that
            -- says something else than the row is no event of Clerk's.
            select c.*, t.id is not null as held, coalesce(c.source_rank = 0 and ({moved}), false) as moved, {parents}
            from unnest(p_changes) with ordinality as c
            left join clerk.{table} t on t.id = c.id and c.kind = '{kind}' and c.buried_by is null
          ), judged as (
            select c.*, (
              select max(o.deleted_at) from clerk_private.objects o
              where c.kind = '{kind}' and c.buried_by is null and o.deleted_at is not null and (o.kind, o.id) in ({pairs})
            ) as parent_deleted_at
            from completed c
          )
          select array_agg(case
              when j.kind is distinct from '{kind}' then null
              when j.buried_by is not null then
                (j.kind, j.id, j.buried_by, 0, j.observed_at, 0::smallint, '', j.source, null)::clerk_private.change
              when j.moved then null
              when ({lacks}) and not exists (
                select from clerk_private.objects o   -- of one that is gone: late, not incomplete
                where o.kind = j.kind and o.id = j.id and o.deleted_at is not null) then null
              -- An update takes no row away: that is the cascade's, which is weighed. Without a kind: nothing is written.
              when j.parent_deleted_at is not null and j.held then
                (null, j.id, null, null, null, null, null, null, null)::clerk_private.change
              when j.parent_deleted_at is not null then
                (j.kind, j.id, 'parent', 0, j.parent_deleted_at, 0::smallint, '', j.source, null)::clerk_private.change
              else
                (j.kind, j.id, null, j.updated_at, j.observed_at, j.source_rank, j.svix_id, j.source,
                 case when {whole} then j.object else j.object{merged} end)::clerk_private.change
              end order by j.ordinality)
          from judged j);
      end $body$
    $template$, v_parts);
  end if;

  if p_one_per_parents then
    execute clerk_private.filled($template$
      -- The older one of each pair that has the same parents and of which p_ids names one.
      create or replace function clerk_private.replaced_{kind}(p_ids text[]) returns table (by_id text, id text)
      language plpgsql stable set search_path = pg_catalog, pg_temp as $body$
      begin
        return query
          select n.id, case when (o.created_at, o.id) < (n.created_at, n.id) then o.id else n.id end
          from clerk.{table} n join clerk.{table} o on {same} and o.id <> n.id where n.id = any (p_ids);
      end $body$
    $template$, v_parts);
  end if;

  execute clerk_private.filled(replace(replace(replace($template$
    create or replace function clerk_private.apply_{kind}(p_changes clerk_private.change[]) returns text[]
    language plpgsql set search_path = pg_catalog, pg_temp as $body$
    declare
      v_changes clerk_private.change[] := @completed@;
      v_typed clerk.{table}[];
      v_digests bytea[];
      v_verdicts text[];
      v_outcomes text[];
      v_written jsonb;
      v_strange bigint;
    begin
      select array_agg(row(p.*)::clerk.{table} order by c.ordinality),
        array_agg(clerk_private.digest_{kind}(row(p.*)::clerk.{table}@digested@) order by c.ordinality),
        count(*) filter (where c.kind = '{kind}' and c.buried_by is null and p.id is distinct from c.id)
      into v_typed, v_digests, v_strange
      from unnest(v_changes) with ordinality as c
      left join lateral clerk_private.project_{kind}(c.object) p on c.kind = '{kind}' and c.buried_by is null;

      -- Its typed row would be written without being arbitrated.
      if v_strange > 0 then
        raise exception 'an object has another id than its change' using errcode = 'data_exception';
      end if;
      v_verdicts := clerk_private.arbitrate('{kind}', v_changes, v_digests, {projection}::smallint);

      -- Statements of their own: this one's snapshot must see the row that a writer before us committed while we waited for it.
      if 'deleted' = any (v_verdicts) then
        perform clerk_private.remove_deleted('{kind}', v_changes, v_verdicts);
      end if;

      with written as (
        insert into clerk.{table} as t ({columns})
        select {row} from unnest(v_typed) with ordinality as w where v_verdicts[w.ordinality] = 'won' order by w.id
        on conflict (id) do update set {sets}
        where (t.*) is distinct from (excluded.*)
        returning t.id, xmax = 0 as fresh
      )
      select jsonb_object_agg(w.id, w.fresh) into v_written from written w;
      @details@
      v_outcomes := clerk_private.outcomes(v_changes, v_verdicts, v_written);

      return (
        select array_agg(case
          when c.kind is distinct from '{kind}' then null
          when v_changes[c.ordinality] is null then 'incomplete'
          when (v_changes[c.ordinality]).kind is null then 'buried'
          when v_verdicts[c.ordinality] = 'deleted' and c.buried_by is null then 'buried'
          else v_outcomes[c.ordinality] end order by c.ordinality)
        from unnest(p_changes) with ordinality as c);
    end $body$
  $template$,
    '@completed@', case when p_parents = '[]' then 'p_changes' else 'clerk_private.completed_{kind}(p_changes)' end),
    '@digested@', case when p_details is null then '' else
      ', array(select x from clerk_private.project_{kind}_details(c.object) x order by x.id collate "C")' end),
    '@details@', case when p_details is null then '' else $template$
      with listed as (
        select d.* from unnest(v_changes) with ordinality as c
        cross join lateral clerk_private.project_{kind}_details(c.object) d
        where v_verdicts[c.ordinality] = 'won'
      ), gone as (
        delete from clerk.{details} d using unnest(v_changes) with ordinality as c
        where v_verdicts[c.ordinality] = 'won' and d.{owner} = c.id
          and not exists (select from listed l where l.{owner} = d.{owner} and l.id = d.id)
      )
      insert into clerk.{details} as d
      select distinct on (l.{owner}, l.id) l.* from listed l order by l.{owner}, l.id
      on conflict ({owner}, id) do update set {detail_sets}
      where (d.*) is distinct from (excluded.*);
$template$ end), v_parts);

  perform clerk_private.define_views();
end $define$;

-- All typed rows and all children as one view each, and the functions that choose by kind: made anew after every declaration.
create function clerk_private.define_views() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  v_rows text;
  v_children text;
  v_applied text;
  v_emptied text;
  v_digested text;
  v_replaced text;
begin
  select string_agg(format('select * from clerk_private.%I(p_ids) where p_kind = %L', 'replaced_' || e.kind, e.kind), ' union all ' order by e.rank)
  into v_replaced
  from clerk_private.entities e where e.one_per_parents;
  select string_agg(format(
      'select %1$L::text as kind, r.id, r.created_at, r.updated_at, clerk_private.%2$I(r%3$s) as digest, %4$s as parents from clerk.%5$I r',
      e.kind, 'digest_' || e.kind,
      case when e.details is null then '' else format(
        ', array(select d from clerk.%I d where d.%I = r.id order by d.id collate "C")', e.details, e.details_owner) end,
      (select format('array[%s]::text[]', string_agg(format('r.%I', p.column_name), ', ' order by p.position))
       from clerk_private.entity_parents p where p.kind = e.kind),
      e.table_name), ' union all ' order by e.rank),
    string_agg(format(' when %L then clerk_private.%I(p_changes)', e.kind, 'apply_' || e.kind), '' order by e.rank),
    string_agg(format(' when %L then clerk_private.%I(p_id)', e.kind, 'empty_' || e.kind), '' order by e.rank),
    string_agg(format(' when %1$L then (select clerk_private.%2$I(p%3$s) from clerk_private.%4$I(p_object) p)',
      e.kind, 'digest_' || e.kind,
      case when e.details is null then '' else format(
        ', array(select x from clerk_private.%I(p_object) x order by x.id collate "C")', 'project_' || e.kind || '_details') end,
      'project_' || e.kind), '' order by e.rank)
  into v_rows, v_applied, v_emptied, v_digested
  from clerk_private.entities e;
  select string_agg(format('select %L::text as kind, r.id, %L::text as parent_kind, r.%I as parent from clerk.%I r',
    e.kind, p.parent_kind, p.column_name, e.table_name), ' union all ' order by e.rank, p.position)
  into v_children
  from clerk_private.entities e join clerk_private.entity_parents p using (kind);

  execute 'create or replace view clerk_private.typed_rows with (security_invoker = true) as ' || v_rows;
  execute 'create or replace view clerk_private.child_rows with (security_invoker = true) as ' || coalesce(v_children,
    'select ''''::text as kind, ''''::text as id, ''''::text as parent_kind, ''''::text as parent where false');
  execute format('create or replace function clerk_private.apply_kind(p_kind text, p_changes clerk_private.change[]) returns text[]
    language plpgsql set search_path = pg_catalog, pg_temp as %L', 'begin return case p_kind' || v_applied || ' end; end');
  execute format('create or replace function clerk_private.empty_row(p_kind text, p_id text) returns void
    language plpgsql set search_path = pg_catalog, pg_temp as %L', 'begin perform case p_kind' || v_emptied || ' end; end');
  execute format('create or replace function clerk_private.projected_digest(p_kind text, p_object jsonb) returns bytea
    language plpgsql stable set search_path = pg_catalog, pg_temp as %L', 'begin return case p_kind' || v_digested || ' end; end');

  execute format('create or replace function clerk_private.replaced(p_kind text, p_ids text[]) returns table (by_id text, id text)
    language plpgsql stable set search_path = pg_catalog, pg_temp as %L',
    'begin return query ' || coalesce(v_replaced, 'select '''', '''' where false') || '; end');

  grant select on clerk_private.typed_rows, clerk_private.child_rows to clerk_definer, clerk_reconciler, clerk_cli;
  execute (
    select format('grant execute on function %s to clerk_reconciler, clerk_cli', string_agg(f.oid::regprocedure::text, ', '))
    from pg_proc f join clerk_private.entities e on f.proname = 'digest_' || e.kind
    where f.pronamespace = 'clerk_private'::regnamespace);
  perform clerk_private.grant_definer();
end $$;

-- ---------------------------------------------------------------- who wins

-- The first statement of every writing transaction: exclusive where it deletes a parent, else shared (ROW EXCLUSIVE fits with
-- itself). A lock and the check that it guards in one statement miss what committed
-- while the lock was waited for: a later statement takes a new snapshot.
create function clerk_private.lock_parents(p_changes clerk_private.change[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  r record;
begin
  for r in
    with parents as (
      select c.id as parent, true as deletes from unnest(p_changes) c
      where c.buried_by is not null and c.kind in (select p.parent_kind from clerk_private.entity_parents p)
      union all
      select coalesce(c.object #>> p.path,
        (select t.parents[p.position] from clerk_private.typed_rows t where t.kind = c.kind and t.id = c.id)), false
      from unnest(p_changes) c join clerk_private.entity_parents p on p.kind = c.kind
      where c.buried_by is null
    )
    select clerk_private.parent_bucket(p.parent) as bucket, bool_or(p.deletes) as deletes
    from parents p where p.parent is not null
    group by 1 order by 1
  loop
    execute 'lock table clerk_private.bucket_' || r.bucket
      || case when r.deletes then ' in share row exclusive mode' else ' in row exclusive mode' end;
  end loop;
end $$;

-- Decides which change of each object wins, and says so for every change of this kind: won, deleted, stale, buried (else null).
-- p_digests runs beside p_changes. Rows are inserted in order of id: two batches cannot wait for each other.
create function clerk_private.arbitrate(
  p_kind text, p_changes clerk_private.change[], p_digests bytea[], p_projection smallint) returns text[]
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  v_chosen jsonb;    -- by id: which of its changes was tried
  v_written jsonb;   -- by id: whether that one was written
  v_dead jsonb;      -- ids that are tombstones now
  v_verdicts text[];
begin
  with candidates as (
    select distinct on (c.id) c.*, bool_or(c.buried_by = 'event') over (partition by c.id) as by_event
    from unnest(p_changes) with ordinality as c
    where c.kind = p_kind
    order by c.id, (c.buried_by is not null) desc, case when c.buried_by is null then c.updated_at end desc,
      c.observed_at desc, c.source_rank desc, c.svix_id collate "C" desc, c.ordinality
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
      case when c.buried_by is not null then nextval('clerk_private.tombstones') end,
      case when c.buried_by is null then c.object end,
      case when c.buried_by is null then p_digests[c.ordinality] end,
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
  select (select jsonb_object_agg(c.id, c.ordinality) from candidates c),
    coalesce((select jsonb_object_agg(w.id, true) from written w), '{}')
  into v_chosen, v_written;

  -- A deletion that a revival made stale must not hide an update of its batch: judge that one by itself.
  if exists (
    select from unnest(p_changes) c where c.kind = p_kind and c.buried_by is not null and not v_written ? c.id) then
    v_verdicts := clerk_private.arbitrate(p_kind, (
      select array_agg(case when c.kind = p_kind and not v_written ? c.id and c.buried_by is null
        then p_changes[c.ordinality] end order by c.ordinality)
      from unnest(p_changes) with ordinality as c), p_digests, p_projection);
  end if;

  -- In a statement of its own: it sees what others committed while this one waited for their rows.
  select coalesce(jsonb_object_agg(o.id, true), '{}') into v_dead from clerk_private.objects o
  where o.kind = p_kind and o.deleted_at is not null and o.id = any (array(select jsonb_object_keys(v_chosen - array(select jsonb_object_keys(v_written)))));

  return (
    select array_agg(case
      when c.kind is distinct from p_kind then null
      when v_written ? c.id and (v_chosen ->> c.id)::bigint = c.ordinality then case when c.buried_by is null then 'won' else 'deleted' end
      when v_verdicts[c.ordinality] = 'won' then 'won'
      when v_dead ? c.id or v_written ? c.id and p_changes[(v_chosen ->> c.id)::bigint].buried_by is not null then 'buried'
      else 'stale' end order by c.ordinality)
    from unnest(p_changes) with ordinality as c);
end $$;

-- What each change came to: won becomes created, updated or unchanged, by what happened to the typed row.
create function clerk_private.outcomes(p_changes clerk_private.change[], p_verdicts text[], p_written jsonb) returns text[]
language sql stable as $$
  select array_agg(case
    when p_verdicts[c.ordinality] is distinct from 'won' then p_verdicts[c.ordinality]
    when (p_written -> c.id) is null then 'unchanged'
    when (p_written ->> c.id)::boolean then 'created'
    else 'updated' end order by c.ordinality)
  from unnest(p_changes) with ordinality as c $$;

-- ---------------------------------------------------------------- deletion, and what guards it

-- What deletions of these ids take away, cascades included: typed rows by kind. Children have no children of their own.
create function clerk_private.deletion_weights(p_kind text, p_ids text[]) returns table (kind text, more bigint)
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
  return query
    select p_kind, count(*) from clerk_private.typed_rows t where t.kind = p_kind and t.id = any (p_ids)
    union all
    select p.kind, (
      select count(distinct c.id) from clerk_private.child_rows c
      where c.kind = p.kind and c.parent_kind = p_kind and c.parent = any (p_ids))
    from clerk_private.entity_parents p where p.parent_kind = p_kind;
end $$;

-- Whether p_more deletions fit beside those that p_causes made within p_window: up to the greater of floor and percent, and never
-- more than a quarter of the kind (kinds of four rows or fewer: one row), whatever the limits say. The kind is counted as it was
-- before these deletions, and unless p_exact only as far as the answer needs it.
create function clerk_private.share(
  p_kind text, p_more bigint, p_window interval, p_causes text[], p_exact boolean,
  out deleted bigint, out live bigint, out allowed bigint, out fits boolean)
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
  g clerk_private.guard_limits;
  v_table text;
  v_most bigint;
begin
  select * into g from clerk_private.guard_limits l where l.kind = p_kind;
  select coalesce(sum(d.number), 0) into deleted from clerk_private.deletions d
  where d.kind = p_kind and d.at > clock_timestamp() - p_window and d.cause = any (p_causes);
  if not p_exact then
    v_most := 4 * (deleted + p_more) + case
      when deleted + p_more > g.floor and g.percent > 0 then least(ceil((deleted + p_more) * 100 / g.percent), 1e15)::bigint else 0 end;
  end if;
  select e.table_name into v_table from clerk_private.entities e where e.kind = p_kind;
  execute format('select count(*) from (select from clerk.%I limit $1) x', v_table) into live using v_most;
  allowed := least(
    greatest(g.floor, floor((live + deleted) * g.percent / 100)::bigint),
    case when live + deleted <= 4 then 1 else (live + deleted) / 4 end);
  fits := p_more = 0 or deleted + p_more <= allowed;
end $$;

-- Locks the limits of a kind and of its children's kinds: until the transaction ends nobody else weighs these.
create function clerk_private.lock_guard(p_kinds text[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  perform from clerk_private.guard_limits g
  where g.kind = any (p_kinds)
    or g.kind in (select p.kind from clerk_private.entity_parents p where p.parent_kind = any (p_kinds))
  order by g.kind for update;
end $$;

-- What the ledger calls it; null where a large cascade goes on, which was noted as a whole when it began.
create function clerk_private.deletion_cause(p_source text) returns text language sql immutable parallel safe as $$
  select case
    when p_source in ('webhook', 'replay') then 'event'
    when p_source = 'sweep' then 'verification'
    when p_source in ('approval', 'confirmed', 'release') then p_source end $$;

-- Typed rows of tombstones go, and the ledger notes how many and why.
create function clerk_private.remove_deleted(p_kind text, p_changes clerk_private.change[], p_verdicts text[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  r record;
  v_number bigint;
begin
  for r in
    select clerk_private.deletion_cause(c.source) as cause, array_agg(c.id order by c.id) as ids
    from unnest(p_changes) with ordinality as c
    where p_verdicts[c.ordinality] = 'deleted'
    group by 1 order by 1
  loop
    v_number := clerk_private.remove_rows(p_kind, r.ids);
    if r.cause is not null and v_number > 0 then
      insert into clerk_private.deletions (kind, cause, number) values (p_kind, r.cause, v_number);
    end if;
  end loop;
end $$;

-- Takes typed rows away and answers how many. What others hang on them must not hold a deletion up, be it a foreign key or a
-- transaction that is about to refer to them: such a row is emptied, hidden, tried again. Nothing else deletes a typed row.
create function clerk_private.remove_rows(p_kind text, p_ids text[]) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  v_patience constant text := current_setting('lock_timeout');
  e clerk_private.entities;
  v_id text;
  v_number bigint := 0;
  v_constraint text;
  v_column text;
begin
  if exists (
    select from unnest(p_ids) i (id)
    where not exists (
      select from clerk_private.objects o where o.kind = p_kind and o.id = i.id and o.deleted_at is not null)) then
    raise exception 'a typed row of kind % without a tombstone is not removed', p_kind using errcode = 'NX004';
  end if;
  select * into strict e from clerk_private.entities x where x.kind = p_kind;
  begin
    perform set_config('lock_timeout', '250ms', true);
    if e.details is not null then
      execute format('delete from clerk.%I d where d.%I = any ($1)', e.details, e.details_owner) using p_ids;
    end if;
    execute format('delete from clerk.%I t where t.id = any ($1)', e.table_name) using p_ids;
    get diagnostics v_number = row_count;
    perform set_config('lock_timeout', v_patience, true);
    set constraints all immediate;
    delete from clerk_private.burying b where b.kind = p_kind and b.id = any (p_ids) and b.reason = 'foreign key';
    return v_number;
  -- The whole class: ON DELETE RESTRICT has a code of its own from 18 on, SET NULL may meet NOT NULL.
  exception when integrity_constraint_violation or lock_not_available then
    get stacked diagnostics v_constraint = constraint_name, v_column = column_name;
  end;
  if cardinality(p_ids) > 1 then
    v_number := 0;
    foreach v_id in array p_ids loop
      v_number := v_number + clerk_private.remove_rows(p_kind, array[v_id]);
    end loop;
    return v_number;
  end if;

  update clerk_private.burying b set attempts = b.attempts + 1, constraint_name = coalesce(nullif(v_constraint, ''), nullif(v_column, ''))
  where b.kind = p_kind and b.id = p_ids[1] and b.reason = 'foreign key';
  if found then
    return 0;
  end if;
  insert into clerk_private.burying (kind, id, reason, constraint_name, attempts)
  values (p_kind, p_ids[1], 'foreign key', coalesce(nullif(v_constraint, ''), nullif(v_column, '')), 1);
  perform clerk_private.empty_row(p_kind, p_ids[1]);
  return 1;
end $$;

-- The children of parents of one kind that were just deleted, as changes that bury them: p_most of them at once. A parent with
-- more, or one that comes after p_most, is left to clerk_private.bury(), chunk by chunk; until then every policy hides what is
-- below it, and the ledger has its children already.
create function clerk_private.cascade(p_kind text, p_changes clerk_private.change[], p_outcomes text[], p_most integer)
returns clerk_private.change[]
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  v_children clerk_private.change[];
  r record;
begin
  with parents as (
    select distinct on (c.id) c.id, c.observed_at, c.source from unnest(p_changes) with ordinality as c
    where p_outcomes[c.ordinality] = 'deleted' and c.kind = p_kind order by c.id
  ), children as (
    select p.id as parent, p.observed_at, p.source, c.kind, c.id
    from parents p cross join lateral (
      select x.kind, x.id from clerk_private.child_rows x where x.parent_kind = p_kind and x.parent = p.id limit p_most + 1) c
  ), counted as (
    select c.*, count(*) over (order by c.parent) > p_most as large from children c  -- peers included
  ), marked as (
    insert into clerk_private.burying (kind, id, reason)
    select distinct p_kind, c.parent, 'cascade' from counted c where c.large
    on conflict (kind, id, reason) do nothing
  )
  select array_agg((c.kind, c.id, 'parent', 0, c.observed_at, 0::smallint, '', c.source, null)
    ::clerk_private.change) into v_children
  from counted c where not c.large;

  for r in
    select distinct on (c.id) c.id, c.source from unnest(p_changes) with ordinality as c
    join clerk_private.burying b on b.kind = p_kind and b.id = c.id and b.reason = 'cascade'
    where p_outcomes[c.ordinality] = 'deleted' and c.kind = p_kind and b.since = now() order by c.id
  loop
    insert into clerk_private.deletions (kind, cause, number)
    select c.kind, clerk_private.deletion_cause(r.source), count(*)
    from clerk_private.child_rows c where c.parent_kind = p_kind and c.parent = r.id group by c.kind;
  end loop;
  return v_children;
end $$;

-- Applies changes of any kinds, parents first, and says for each what it came to: created, updated, unchanged, stale, deleted,
-- buried, incomplete. The caller has called lock_parents() in a statement before.
create function clerk_private.apply(p_changes clerk_private.change[], p_cascade_most integer default 5000) returns text[]
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  v_changes clerk_private.change[] := p_changes;
  v_outcomes text[];
  v_part text[];
  v_kinds text[] := array(select distinct c.kind from unnest(p_changes) c where c.kind is not null);
  v_kind text;
begin
  for v_kind in select e.kind from clerk_private.entities e order by e.rank loop
    continue when not v_kind = any (v_kinds);
    v_part := clerk_private.apply_kind(v_kind, v_changes);
    if v_outcomes is null then
      v_outcomes := v_part;
    else
      v_outcomes := (select array_agg(coalesce(p.x, v_outcomes[p.ordinality]) order by p.ordinality)
        from unnest(v_part) with ordinality as p (x));
    end if;
    if 'deleted' = any (v_part) and exists (select from clerk_private.entity_parents p where p.parent_kind = v_kind) then
      v_changes := v_changes || clerk_private.cascade(v_kind, v_changes, v_part, p_cascade_most);
      v_kinds := array(select distinct c.kind from unnest(v_changes) c where c.kind is not null);
    end if;
  end loop;
  return v_outcomes[1:cardinality(p_changes)];
end $$;

-- Goes on with what one transaction could not finish: a chunk of one parent's children, or else what foreign keys held. Answers
-- how much it got done; 0: nothing more can be done now. Called by the webhook service, now and then.
-- It never waits for an arbiter row while it holds another out of order: who is being written to is left for the next time.
create function clerk_private.bury_children(p_chunk integer) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  r record;
  v_children clerk_private.change[];
  v_done bigint := 0;
begin
  perform from clerk_private.chores c where c.name = 'bury' for update skip locked;
  if not found then
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
    select array_agg((m.kind, m.id, 'parent', 0, r.deleted_at, 0::smallint, '', 'cascade', null)::clerk_private.change)
    into v_children
    from (
      select m.kind, m.id from clerk_private.child_rows m
      where m.parent_kind = r.kind and m.parent = r.id
        and not exists (select from clerk_private.burying h where h.kind = m.kind and h.id = m.id)
        and not exists (
          select from clerk_private.objects o
          where o.kind = m.kind and o.id = m.id and o.revived_at >= r.deleted_at)
      limit p_chunk) m;
    if v_children is not null then
      perform clerk_private.apply(v_children);
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

-- ---------------------------------------------------------------- the kinds

create function clerk_private.project_user(p_object jsonb) returns setof clerk.users
language sql stable parallel safe as $$
  select
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
  from (select) one
  left join lateral (
    select x as e from jsonb_array_elements(nullif(p_object -> 'email_addresses', 'null')) x
    where x ->> 'id' = p_object ->> 'primary_email_address_id' limit 1) mail on true
  left join lateral (
    select x as p from jsonb_array_elements(nullif(p_object -> 'phone_numbers', 'null')) x
    where x ->> 'id' = p_object ->> 'primary_phone_number_id' limit 1) phone on true $$;

create function clerk_private.project_user_details(p_object jsonb) returns setof clerk.user_emails
language sql stable parallel safe as $$
  select
    p_object ->> 'id',
    coalesce(x ->> 'id', x ->> 'email_address'),
    x ->> 'email_address',
    coalesce(x -> 'verification' ->> 'status' = 'verified', false),
    coalesce(x ->> 'id' = p_object ->> 'primary_email_address_id', false)
  from jsonb_array_elements(nullif(p_object -> 'email_addresses', 'null')) x $$;

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

-- The embedded user and organization give their ids and nothing else: they are snapshots of unknown age.
create function clerk_private.project_organization_membership(p_object jsonb) returns setof clerk.organization_memberships
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

select clerk_private.define_entity('user', 'users', 1, 1,
  p_volatile => '{image_url}', p_details => 'user_emails', p_details_owner => 'user_id');
select clerk_private.define_entity('organization', 'organizations', 2, 1, p_volatile => '{image_url}');
select clerk_private.define_entity('organization_membership', 'organization_memberships', 3, 1, '[
  {"kind": "organization", "column": "organization_id", "path": ["organization", "id"]},
  {"kind": "user", "column": "user_id", "path": ["public_user_data", "user_id"]}]', p_one_per_parents => true);
select clerk_private.grant_definer();
reset role;

set local role clerk_definer;
create function clerk_private.bury(p_chunk integer default 2000) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '5s' as $$
begin
  perform clerk_private.refuse_session();
  return clerk_private.bury_children(p_chunk);
end $$;
grant execute on function clerk_private.bury(integer) to clerk_writer;
reset role;

-- migrate:down
set local role clerk_definer;
drop function clerk_private.bury;
reset role;
set local role clerk_owner;
drop view clerk_private.typed_rows, clerk_private.child_rows;
do $$
declare
  f regprocedure;
begin
  for f in
    select p.oid::regprocedure from pg_catalog.pg_proc p
    where p.pronamespace = 'clerk_private'::regnamespace and p.proowner = 'clerk_owner'::regrole and p.proname <> 'claim_instance'
  loop
    execute format('drop function %s', f);
  end loop;
end $$;
drop type clerk_private.change;
reset role;
