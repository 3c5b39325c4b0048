-- Views that read the mirror, directly or through other views, and show their reader more than the reader's own policies would:
-- they read as their owner does, and the owner passes by the policies or has one that shows every row.
with recursive reads (view, relation) as (
  select r.ev_class, d.refobjid
  from pg_catalog.pg_rewrite r
  join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_rewrite'::regclass and d.objid = r.oid
    and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid <> r.ev_class
), mirror as (
  select c.oid, c.relowner from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where n.nspname in ('clerk', 'clerk_private') and c.relkind in ('r', 'p') and c.relrowsecurity
), reaching (view, relation) as (
  select r.view, r.relation from reads r join mirror m on m.oid = r.relation
  union
  select r.view, x.relation from reads r join reaching x on x.view = r.relation
), judged as (
  select v.oid, v.relkind, n.nspname, v.relname, o.rolname as owner,
    o.rolsuper or o.rolbypassrls as bypasses,
    bool_or(pg_catalog.pg_has_role(v.relowner, m.relowner, 'usage')) as owns,
    bool_or(exists (
      select from pg_catalog.pg_policy p cross join unnest(p.polroles) g
      where p.polrelid = m.oid and g <> 0 and pg_catalog.pg_get_userbyid(g) not in ('authenticated', 'anon')
        and pg_catalog.pg_has_role(v.relowner, g, 'usage'))) as sees_all
  from reaching x
  join mirror m on m.oid = x.relation
  join pg_catalog.pg_class v on v.oid = x.view
  join pg_catalog.pg_namespace n on n.oid = v.relnamespace
  join pg_catalog.pg_roles o on o.oid = v.relowner
  where n.nspname not in ('clerk', 'clerk_private')
    and not (v.relkind = 'v' and coalesce((
      select option_value::boolean from pg_catalog.pg_options_to_table(v.reloptions) where option_name = 'security_invoker'), false))
  group by v.oid, v.relkind, n.nspname, v.relname, v.relowner, o.rolname, o.rolsuper, o.rolbypassrls
)
select format('%I.%I', j.nspname, j.relname) as name, j.owner::text, j.relkind = 'm' as materialized,
  case when j.bypasses then 'bypasses row-level security'
       when j.owns then 'has the rights of the tables'' owner'
       else 'has a policy that shows every row' end as why
from judged j where j.bypasses or j.owns or j.sees_all
order by 1
