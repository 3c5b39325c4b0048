-- The newest run of each sync, kind and mode, and every run that waits for a human or goes on; $1 limits them.
select r.id, r.sweep_id, r.sync, r.kind, r.mode, r.policy, r.state, r.message, r.error, r.listed, r.started_at, r.finished_at, r.holder,
  r.counts, r.requests, r.waits_for, r.superseded_by, r.approved_by, r.approved_at, r.parked_digest is not null as deletions_parked
from clerk_private.runs r
where r.state = 'running' or (r.state = 'parked' and r.parked_digest is not null)
  or r.id in (select max(x.id) from clerk_private.runs x group by x.sync, x.kind, x.mode)
order by r.id desc
limit $1
