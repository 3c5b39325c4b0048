-- How many objects the newest sweep of sync $1 has seen, of all its kinds.
select coalesce(sum((r.counts ->> 'seen')::bigint), 0)::bigint
from clerk_private.runs r
where r.sync = $1 and r.sweep_id = (select max(x.sweep_id) from clerk_private.runs x where x.sync = $1)
