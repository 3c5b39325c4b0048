-- Takes the mark of the webhook service ($1) away once every kind that a sync looks at has been looked at since: kinds of which some
-- sync began a run in the last day. A mark that was set anew meanwhile stays.
update clerk_private.instance set sweep_requested_at = null
where sweep_requested_at = $1 and not exists (
  select from (
    select distinct r.sync, r.kind from clerk_private.runs r
    where r.sync !~ '/' and r.started_at > now() - interval '1 day') s
  where not exists (
    select from clerk_private.runs r
    where r.sync = s.sync and r.kind = s.kind and r.started_at > $1
      and (r.state in ('completed', 'superseded') or r.waits_for is not null)))
