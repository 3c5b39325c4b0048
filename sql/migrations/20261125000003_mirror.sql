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

comment on table clerk.users is 'One row per user of the Clerk instance. Keys are Clerk''s ids; written by nexus-auth alone.';
comment on column clerk.users.id is 'Clerk''s id, user_…';
comment on column clerk.users.primary_email is 'Address of primary_email_address_id; null where the user has none.';
comment on column clerk.users.primary_email_verified is 'Whether that address is verified.';
comment on column clerk.users.primary_phone is 'Number of primary_phone_number_id; null where the user has none.';
comment on column clerk.users.username is 'username; null where the user has none.';
comment on column clerk.users.first_name is 'first_name; null where it is not known.';
comment on column clerk.users.last_name is 'last_name; null where it is not known.';
comment on column clerk.users.image_url is 'Address of the picture, image_url. It may change without updated_at.';
comment on column clerk.users.external_id is 'external_id: your own id of the user, if you gave Clerk one.';
comment on column clerk.users.locale is 'locale, a language tag; null where Clerk has none.';
comment on column clerk.users.public_metadata is 'public_metadata; {} where there is none. Private and unsafe metadata are not mirrored.';
comment on column clerk.users.banned is 'banned: the user may not sign in.';
comment on column clerk.users.locked is 'locked: too many failed attempts to sign in.';
comment on column clerk.users.two_factor_enabled is 'two_factor_enabled: a second factor is set up.';
comment on column clerk.users.last_sign_in_at is 'last_sign_in_at; null before the first sign-in.';
comment on column clerk.users.created_at is 'created_at, by Clerk''s clock.';
comment on column clerk.users.updated_at is 'updated_at, by Clerk''s clock: the version that decides between events.';
comment on table clerk.user_emails is 'Every address of every user, from the user''s own object.';
comment on column clerk.user_emails.user_id is 'The user, clerk.users.id.';
comment on column clerk.user_emails.id is 'Clerk''s id of the address, idn_…';
comment on column clerk.user_emails.email is 'email_address.';
comment on column clerk.user_emails.verified is 'Whether verification.status is verified.';
comment on column clerk.user_emails.is_primary is 'Whether it is the user''s primary address.';
comment on table clerk.organizations is 'One row per organization.';
comment on column clerk.organizations.id is 'Clerk''s id, org_…';
comment on column clerk.organizations.name is 'name.';
comment on column clerk.organizations.slug is 'slug; null where slugs are off.';
comment on column clerk.organizations.image_url is 'Address of the picture, image_url. It may change without updated_at.';
comment on column clerk.organizations.max_allowed_memberships is 'max_allowed_memberships; 0 means no limit.';
comment on column clerk.organizations.public_metadata is 'public_metadata; {} where there is none.';
comment on column clerk.organizations.created_by is 'Id of the user who made it; null where the API made it.';
comment on column clerk.organizations.created_at is 'created_at, by Clerk''s clock.';
comment on column clerk.organizations.updated_at is 'updated_at, by Clerk''s clock: the version that decides between events.';
comment on table clerk.organization_memberships is 'One row per user and organization: who belongs where, in which role.';
comment on column clerk.organization_memberships.id is 'Clerk''s id, orgmem_…';
comment on column clerk.organization_memberships.organization_id is 'The organization, clerk.organizations.id.';
comment on column clerk.organization_memberships.user_id is 'The user, clerk.users.id.';
comment on column clerk.organization_memberships.role is 'role, for example org:admin.';
comment on column clerk.organization_memberships.permissions is 'permissions of that role; {} where Clerk sends none.';
comment on column clerk.organization_memberships.public_metadata is 'public_metadata of the membership; {} where there is none.';
comment on column clerk.organization_memberships.created_at is 'created_at, by Clerk''s clock.';
comment on column clerk.organization_memberships.updated_at is 'updated_at, by Clerk''s clock: the version that decides between events.';

-- clerk_private.define_entity() turns row security on, lets the definer write and the services read, and makes a sweep's index.

-- The helpers read as the definer (a policy that reads its own table recurses) and say nothing but ids.
-- pg_temp comes last in a definer's path: left out, it comes first, and a caller's temporary type called "text" would run the
-- caller's code with the definer's rights.
grant select on clerk.organization_memberships to clerk_definer;
reset role;

set local role clerk_definer;
-- What goes, and is not gone yet; and what a held deletion names for longer than its verification should take. A deletion under
-- a secret that was refused before hides nothing, nor does a question that no deletion asked.
create function clerk_private.hidden_ids() returns setof text
  language sql stable security definer set search_path = pg_catalog, pg_temp as
$$ select b.id from clerk_private.burying b
   union all
   select h.id from clerk_private.held_deletions h
   where h.state = 'held' and h.reason = 'share' and h.held_at < now() - interval '5 minutes' $$;

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
