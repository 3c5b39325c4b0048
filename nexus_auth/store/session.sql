-- name: login
select session_user::text

-- name: database
select pg_catalog.current_database()::text

-- name: clock
select clock_timestamp()

-- name: is_superuser
select r.rolsuper from pg_catalog.pg_roles r where r.rolname = session_user

-- name: groups
-- Of the services $1, whose groups begin with $2: which the server knows, and which the login is a member of.
select s.name, r.oid is not null as known,
  r.oid is not null and pg_catalog.pg_has_role(session_user, r.oid, 'member') as member
from unnest($1::text[]) s (name) left join pg_catalog.pg_roles r on r.rolname = $2::text || s.name

-- name: settings
select current_setting('synchronous_commit') as durable, current_setting('fsync') as fsync,
  current_setting('transaction_isolation') as isolation
