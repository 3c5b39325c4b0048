-- Writes down the state ($3) of events ($1, received at $2) that nothing was applied of. Parked, or no longer: waiting and kept
-- are what a fix may have made of a parked one.
with settled as (
  update clerk_private.inbox i set state = s.state
  from unnest($1::text[], $2::timestamptz[], $3::text[]) as s (svix_id, received_at, state)
  where i.received_at = s.received_at and i.svix_id = s.svix_id and i.state <> s.state
)
update clerk_private.parked p set resolved_at = now(), attempts = p.attempts + 1
from unnest($1::text[], $3::text[]) as s (svix_id, state)
where p.svix_id = s.svix_id and p.resolved_at is null and s.state <> 'parked'
