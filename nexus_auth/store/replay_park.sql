-- Notes that events ($1) cannot be applied, and why ($2); $3: whether clerk_private.replay() has counted the attempt of those
-- that were parked already. One that was resolved before is open again.
insert into clerk_private.parked as p (svix_id, error)
select e.svix_id, e.error from unnest($1::text[], $2::text[]) as e (svix_id, error) order by e.svix_id collate "C"
on conflict (svix_id) do update set
  error = excluded.error,
  attempts = p.attempts + case when $3 and p.resolved_at is null then 0 else 1 end,
  resolved_at = null
