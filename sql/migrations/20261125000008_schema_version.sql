-- migrate:up
-- Which migration a database has come to, asked by services that do not migrate. A function, as dbmate's own table is not there
-- where another tool runs these files. Every later migration replaces it.
set local role clerk_owner;
create function clerk_private.schema_version() returns text language sql stable parallel safe set search_path = '' as
$$ select '20261125000008' $$;
grant execute on function clerk_private.schema_version() to clerk_writer, clerk_worker;
reset role;

-- migrate:down
set local role clerk_owner;
drop function clerk_private.schema_version;
reset role;
