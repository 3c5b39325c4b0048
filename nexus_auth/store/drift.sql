-- What sync $1 knows to differ and has not put right, the newest finding of each object; $2 limits the rows, total counts all.
-- Findings count from the last complete listing of their kind on; what was put right since (an event came) is left out.
with listed as (
  select r.kind, max(r.id) as run_id
  from clerk_private.runs r
  where r.sync = $1 and r.mode in ('full', 'deep') and r.state <> 'running' and r.listed
  group by r.kind
), newest as (
  select distinct on (f.kind, f.id) f.kind, f.id, f.problem, f.action, f.cause, f.expected_at, f.found_at
  from clerk_private.findings f
  join clerk_private.runs r on r.id = f.run_id and r.sync = $1
  left join listed l on l.kind = f.kind
  where f.run_id >= coalesce(l.run_id, 0)
  order by f.kind, f.id, f.run_id desc
)
select n.kind, n.id, n.problem, n.cause, n.found_at, count(*) over () as total
from newest n left join clerk_private.objects o on o.kind = n.kind and o.id = n.id
where n.action in ('reported', 'parked', 'queued', 'awaiting second read', 'refused') and case
    when n.problem = 'extra' then o.deleted_at is null
    when n.problem in ('missing', 'stale') then o.id is null or (o.deleted_at is null and o.updated_at < n.expected_at)
    when n.problem = 'unadopted' then o.id is null
    when n.problem = 'resurfaced' then o.deleted_at is not null
    when n.problem = 'refused' then exists (
      select from clerk_private.refused_objects x where x.kind = n.kind and x.id = n.id)
    else o.deleted_at is null
  end
order by n.found_at, n.kind, n.id
limit $2
