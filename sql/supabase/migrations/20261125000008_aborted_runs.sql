begin;
-- A run that nobody will resume, because its sync was deleted while it ran, ends as one that was aborted.
set local role clerk_owner;
alter table clerk_private.runs drop constraint runs_state_check,
  add constraint runs_state_check check (state in ('running', 'completed', 'parked', 'failed', 'aborted'));
create or replace function clerk_private.schema_version() returns text language sql stable parallel safe set search_path = '' as
$$ select '20261125000008' $$;
reset role;
commit;
