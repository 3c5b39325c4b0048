-- migrate:up
-- Somebody else's schema of one of our names is left alone.
do $$
declare
  r record;
begin
  select n.nspname as name, pg_catalog.pg_get_userbyid(n.nspowner) as owner, (
    select count(*) from pg_catalog.pg_class c where c.relnamespace = n.oid and c.relkind in ('r', 'p', 'v', 'm', 'f')) as tables, (
    select string_agg(distinct w.fdwname, ', ') from pg_catalog.pg_class c
    join pg_catalog.pg_foreign_table t on t.ftrelid = c.oid
    join pg_catalog.pg_foreign_server s on s.oid = t.ftserver
    join pg_catalog.pg_foreign_data_wrapper w on w.oid = s.srvfdw
    where c.relnamespace = n.oid) as wrapper
  into r from pg_catalog.pg_namespace n where n.nspname in ('clerk', 'clerk_private') order by 1 limit 1;
  if found then
    raise exception 'schema % exists already: it belongs to % and holds % tables%; nexus-auth needs the name for itself',
      r.name, r.owner, r.tables, coalesce(' of the foreign data wrapper ' || r.wrapper, '')
      using errcode = 'duplicate_schema', hint = format(
        'Rename it, with what reads it: alter schema %I rename to %I. If it is an earlier nexus-auth without its list of '
        || 'migrations, restore schema clerk_migrations.', r.name, r.name || case when r.wrapper is null then '_old' else '_wrapper' end);
  end if;
end $$;

-- Roles belong to the whole server: create what is missing, never alter what exists (Supabase brings three of them).
-- Another installation may create them at the same moment, in another database, where no advisory lock of ours reaches.
do $$
declare
  r text;
begin
  foreach r in array array['clerk_owner', 'clerk_definer', 'clerk_migrator', 'clerk_writer', 'clerk_webhook', 'clerk_reconciler',
                           'clerk_worker', 'clerk_cli', 'anon', 'authenticated', 'service_role'] loop
    if not exists (select from pg_catalog.pg_roles where rolname = r) then
      begin
        execute format('create role %I nologin %s', r, case when r = 'clerk_migrator' then 'noinherit' else '' end);
      exception when duplicate_object or unique_violation then
        null;
      end;
    end if;
  end loop;
end $$;

-- Whoever migrates may become the owner, and inherits nothing from it: a view of theirs would show every row to everybody, because
-- policies do not hold for an owner's members. Before 16 a grant cannot say so itself; a NOINHERIT role in between can.
-- From 16 on, CREATE ROLE gives its creator ADMIN but not SET; pg_has_role() is true all the same, so grant unconditionally.
grant clerk_owner, clerk_definer to clerk_migrator;
do $$
begin
  if not (select rolsuper from pg_catalog.pg_roles where rolname = current_user) then
    execute format('grant clerk_migrator to %I', current_user);
  end if;
end $$;

grant clerk_writer to clerk_webhook, clerk_reconciler, clerk_cli;

-- The global form on purpose: the form with IN SCHEMA cannot take away PUBLIC's built-in EXECUTE.
set local role clerk_owner;
alter default privileges revoke execute on functions from public;
set local role clerk_definer;
alter default privileges revoke execute on functions from public;
reset role;

-- Reached only by our own logins and by whoever could log in before: a login of another installation on this server must not.
-- Supabase's own roles live from PUBLIC's CONNECT; there we leave it.
do $$
declare
  r name;
  mine constant name[] := array['clerk_owner', 'clerk_writer', 'clerk_worker', 'clerk_webhook', 'clerk_reconciler', 'clerk_cli'];
begin
  if exists (select from pg_catalog.pg_roles where rolname in ('supabase_admin', 'supabase_auth_admin'))
     or not (select pg_catalog.pg_has_role(d.datdba, 'member') from pg_catalog.pg_database d where d.datname = current_database()) then
    return;
  end if;
  for r in
    select l.rolname from pg_catalog.pg_roles l
    where l.rolcanlogin and not l.rolsuper and not exists (
      select from pg_catalog.pg_auth_members m
      join pg_catalog.pg_roles g on g.oid = m.roleid
      where m.member = l.oid and g.rolname ~ '_(webhook|reconciler|worker|cli)$')
  loop
    execute format('grant connect on database %I to %I', current_database(), r);
  end loop;
  foreach r in array mine loop
    execute format('grant connect on database %I to %I', current_database(), r);
  end loop;
  execute format('revoke connect on database %I from public', current_database());
end $$;

-- The migrator creates the schemas, hence only it needs CREATE on the database; afterwards they belong to the owner.
create schema clerk;
create schema clerk_private;
alter schema clerk owner to clerk_owner;
alter schema clerk_private owner to clerk_owner;

set local role clerk_owner;
comment on schema clerk is 'Mirror of Clerk, kept by nexus-auth: read it, never write it; add views of your own elsewhere.';
comment on schema clerk_private is 'nexus-auth''s own tables. Never expose this schema.';
revoke all on schema clerk, clerk_private from public;
grant usage on schema clerk to anon, authenticated, service_role, clerk_writer, clerk_definer;
grant usage on schema clerk_private to clerk_writer, clerk_worker, clerk_definer;
grant create on schema clerk_private to clerk_definer;

-- What a verified session token says. A gateway sets it (PostgREST, our dashboard); auth.jwt() belongs to Supabase, hence our own.
create function clerk.jwt() returns jsonb language sql stable parallel safe set search_path = '' as
$$ select nullif(current_setting('request.jwt.claims', true), '')::pg_catalog.jsonb $$;

-- The claims of a session that is complete. One that waits for a task ("sts": "pending") is signed out, as Clerk's SDKs treat it.
create function clerk.active_claims() returns jsonb language sql stable parallel safe set search_path = '' as
$$ select case when clerk.jwt() ->> 'sts' = 'pending' then null else clerk.jwt() end $$;

create function clerk.current_user_id() returns text language sql stable parallel safe set search_path = '' as
$$ select clerk.active_claims() ->> 'sub' $$;

-- The active organization, from session tokens of version 2 ("o") and 1 ("org_id").
create function clerk.current_org_id() returns text language sql stable parallel safe set search_path = '' as
$$ select coalesce(clerk.active_claims() -> 'o' ->> 'id', clerk.active_claims() ->> 'org_id') $$;

-- Its role as Clerk names it elsewhere ("org:admin"); version 2 leaves the prefix out.
create function clerk.current_org_role() returns text language sql stable parallel safe set search_path = '' as
$$ select coalesce('org:' || (clerk.active_claims() -> 'o' ->> 'rol'), clerk.active_claims() ->> 'org_role') $$;

grant execute on function clerk.jwt(), clerk.active_claims(), clerk.current_user_id(), clerk.current_org_id(), clerk.current_org_role()
  to anon, authenticated, service_role, clerk_definer;
reset role;

-- migrate:down
-- Roles stay: other databases of the server may use them.
set local role clerk_definer;
alter default privileges grant execute on functions to public;
set local role clerk_owner;
alter default privileges grant execute on functions to public;
drop schema clerk_private cascade;
drop schema clerk cascade;
reset role;
