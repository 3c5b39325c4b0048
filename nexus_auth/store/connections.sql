-- Who holds how many of the server's connections: each login by name that is a member of one of our groups (their names
-- begin with $1), the others together. Any login may see whose a session is and of which database, and little else.
with held as (
  select a.usename as login, count(*) as number,
    exists (select from pg_auth_members m join pg_roles g on g.oid = m.roleid
      where m.member = a.usesysid and starts_with(g.rolname, $1)) as ours
  from pg_stat_activity a where a.usesysid is not null and a.datid is not null group by a.usename, a.usesysid
)
select
  current_setting('max_connections')::int as max,
  current_setting('superuser_reserved_connections')::int
    + coalesce(current_setting('reserved_connections', true)::int, 0) as reserved,
  (select coalesce(sum(number), 0)::int from held) as held,
  (select coalesce(jsonb_object_agg(login, number order by login), '{}') from held where ours)::text as by_login,
  (select coalesce(sum(number), 0)::int from held where not ours) as others
