-- migrate:up
set local role clerk_owner;

-- No foreign keys and no unique key but Clerk's id: events arrive in any order, and two users may swap an address.
create table clerk.users (
  id text primary key,
  primary_email text,
  primary_email_verified boolean not null default false,
  primary_phone text,
  username text,
  first_name text,
  last_name text,
  image_url text,
  external_id text,
  locale text,
  public_metadata jsonb not null default '{}',
  banned boolean not null default false,
  locked boolean not null default false,
  two_factor_enabled boolean not null default false,
  last_sign_in_at timestamptz,
  created_at timestamptz not null,
  updated_at timestamptz not null
) with (fillfactor = 90);
create index users_primary_email on clerk.users (lower(primary_email));
create index users_external_id on clerk.users (external_id) where external_id is not null;

-- Derived from the user's object, hence keyed by user and address: an address that moves is never taken away by a late event.
create table clerk.user_emails (
  user_id text not null,
  id text not null,
  email text not null,
  verified boolean not null,
  is_primary boolean not null,
  primary key (user_id, id)
);
create index user_emails_email on clerk.user_emails (lower(email));

create table clerk.organizations (
  id text primary key,
  name text not null,
  slug text,
  image_url text,
  max_allowed_memberships bigint,
  public_metadata jsonb not null default '{}',
  created_by text,
  created_at timestamptz not null,
  updated_at timestamptz not null
);
create index organizations_slug on clerk.organizations (slug);

create table clerk.organization_memberships (
  id text primary key,
  organization_id text not null,
  user_id text not null,
  role text not null,
  permissions text[] not null default '{}',
  public_metadata jsonb not null default '{}',
  created_at timestamptz not null,
  updated_at timestamptz not null
);
create index memberships_by_organization on clerk.organization_memberships (organization_id, user_id);
create index memberships_by_user on clerk.organization_memberships (user_id, organization_id);

-- clerk_private.define_entity() turns row security on, lets the definer write and the services read, and makes a sweep's index.

-- The helpers read as the definer (a policy that reads its own table recurses) and say nothing but ids.
-- pg_temp comes last in a definer's path: left out, it comes first, and a caller's temporary type called "text" would run the
-- caller's code with the definer's rights.
grant select on clerk.organization_memberships to clerk_definer;
reset role;

set local role clerk_definer;
-- What goes, and is not gone yet; and what a held deletion names for longer than its verification should take.
create function clerk_private.hidden_ids() returns setof text
  language sql stable security definer set search_path = pg_catalog, pg_temp as
$$ select b.id from clerk_private.burying b
   union all
   select h.id from clerk_private.held_deletions h
   where h.state = 'held' and h.held_at < now() - interval '5 minutes' $$;

create function clerk_private.my_org_ids() returns setof text
  language sql stable security definer set search_path = pg_catalog, pg_temp as
$$ select m.organization_id from clerk.organization_memberships m
   where m.user_id = (select clerk.current_user_id())
     and not exists (
       select from clerk_private.hidden_ids() h (id) where h.id in (m.organization_id, m.user_id, m.id)) $$;

grant execute on function clerk_private.hidden_ids() to authenticated, service_role;
grant execute on function clerk_private.my_org_ids() to authenticated;
reset role;

set local role clerk_owner;
create policy users_read on clerk.users for select to authenticated using (
  id = (select clerk.current_user_id()) and not id = any (array(select clerk_private.hidden_ids())));
create policy user_emails_read on clerk.user_emails for select to authenticated using (
  user_id = (select clerk.current_user_id()) and not user_id = any (array(select clerk_private.hidden_ids())));
create policy organizations_read on clerk.organizations for select to authenticated using (
  id = any (array(select clerk_private.my_org_ids())));
create policy memberships_read on clerk.organization_memberships for select to authenticated using (
  organization_id = any (array(select clerk_private.my_org_ids()))
  and not user_id = any (array(select clerk_private.hidden_ids()))
  and not id = any (array(select clerk_private.hidden_ids())));

create policy users_service on clerk.users for select to service_role using (
  not id = any (array(select clerk_private.hidden_ids())));
create policy user_emails_service on clerk.user_emails for select to service_role using (
  not user_id = any (array(select clerk_private.hidden_ids())));
create policy organizations_service on clerk.organizations for select to service_role using (
  not id = any (array(select clerk_private.hidden_ids())));
create policy memberships_service on clerk.organization_memberships for select to service_role using (
  not organization_id = any (array(select clerk_private.hidden_ids()))
  and not user_id = any (array(select clerk_private.hidden_ids()))
  and not id = any (array(select clerk_private.hidden_ids())));

grant select on clerk.users, clerk.user_emails, clerk.organizations, clerk.organization_memberships
  to authenticated, service_role;
reset role;

-- migrate:down
set local role clerk_owner;
drop table clerk.organization_memberships, clerk.organizations, clerk.user_emails, clerk.users;
reset role;
set local role clerk_definer;
drop function clerk_private.my_org_ids(), clerk_private.hidden_ids();
reset role;
