-- Everything that role $1 can do in our two schemas, by whatever way it came by it, one line each: "<what> <object> <privilege>".
with objects as (
  select c.oid, c.relkind, c.oid::regclass::text as name
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where n.nspname in ('clerk', 'clerk_private') and c.relkind in ('r', 'p', 'v', 'm', 'S')
    and c.relname !~ '^(inbox_\d{8}|bucket_\d+)$'   -- made one a day, or one for each lock, with no grants to services
)
select 'schema ' || n.nspname || ' ' || p.privilege as line
from pg_catalog.pg_namespace n cross join (values ('USAGE'), ('CREATE')) p (privilege)
where n.nspname in ('clerk', 'clerk_private') and pg_catalog.has_schema_privilege($1, n.oid, p.privilege)
union all
select 'table ' || o.name || ' ' || p.privilege
from objects o
cross join (values ('SELECT'), ('INSERT'), ('UPDATE'), ('DELETE'), ('TRUNCATE'), ('REFERENCES'), ('TRIGGER')) p (privilege)
where o.relkind <> 'S' and pg_catalog.has_table_privilege($1, o.oid, p.privilege)
union all
select 'column ' || o.name || '.' || a.attname || ' ' || p.privilege
from objects o
join pg_catalog.pg_attribute a on a.attrelid = o.oid and a.attnum > 0 and not a.attisdropped
cross join (values ('SELECT'), ('INSERT'), ('UPDATE'), ('REFERENCES')) p (privilege)
where o.relkind <> 'S' and pg_catalog.has_column_privilege($1, o.oid, a.attnum, p.privilege)
  and not pg_catalog.has_table_privilege($1, o.oid, p.privilege)
union all
select 'sequence ' || o.name || ' ' || p.privilege
from objects o cross join (values ('USAGE'), ('SELECT'), ('UPDATE')) p (privilege)
where o.relkind = 'S' and pg_catalog.has_sequence_privilege($1, o.oid, p.privilege)
union all
select 'function ' || f.oid::regprocedure::text || ' EXECUTE'
from pg_catalog.pg_proc f join pg_catalog.pg_namespace n on n.oid = f.pronamespace
where n.nspname in ('clerk', 'clerk_private') and pg_catalog.has_function_privilege($1, f.oid, 'EXECUTE')
order by 1
