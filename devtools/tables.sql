-- Tables and views of schema clerk, their columns in order, and what their comments say.
select c.relname::text as table_name, pg_catalog.obj_description(c.oid, 'pg_class') as table_comment, a.attname::text as name,
  pg_catalog.format_type(a.atttypid, a.atttypmod) as type, not a.attnotnull as nullable,
  pg_catalog.col_description(c.oid, a.attnum) as comment,
  exists (select from pg_catalog.pg_index i where i.indrelid = c.oid and i.indisprimary and a.attnum = any (i.indkey)) as key
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where n.nspname = 'clerk' and c.relkind in ('r', 'p', 'v')
order by c.relname, a.attnum
