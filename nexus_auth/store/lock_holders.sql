-- Sessions that hold a lock on tables of ours which no writer's ROW EXCLUSIVE fits with, or that others wait for.
select a.pid, coalesce(a.usename::text, '?') as role, l.relation::regclass::text as relation, l.mode
from pg_catalog.pg_locks l
join pg_catalog.pg_stat_activity a on a.pid = l.pid
join pg_catalog.pg_class c on c.oid = l.relation
join pg_catalog.pg_namespace n on n.oid = c.relnamespace and n.nspname in ('clerk', 'clerk_private')
where l.granted and l.pid <> pg_catalog.pg_backend_pid() and c.relkind in ('r', 'p')
  and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
  and (l.mode in ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
    or l.pid in (select b from pg_catalog.pg_locks w, unnest(pg_catalog.pg_blocking_pids(w.pid)) b where not w.granted))
order by a.backend_start, a.pid, 3
