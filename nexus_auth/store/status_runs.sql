-- The newest run of each sync and mode, and every run that waits for a human or goes on; $1 limits them.
select r.id, r.sync, r.mode, r.policy, r.state, r.message, r.kinds, r.started_at, r.finished_at, r.holder, r.counts,
  r.requests, r.approved_by, r.approved_at, r.parked_digest is not null as deletions_parked
from clerk_private.runs r
where r.state = 'running' or (r.state = 'parked' and r.parked_digest is not null)
  or r.id in (select max(x.id) from clerk_private.runs x group by x.sync, x.mode)
order by r.id desc
limit $1
