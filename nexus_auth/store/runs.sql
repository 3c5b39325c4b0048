-- name: sweep
-- The sweep that an unfinished run of sync $1 and one of the kinds $2 belongs to (mode $3, policy $4); else a new number.
select coalesce(
  (select min(r.sweep_id) from clerk_private.runs r
   where r.sync = $1 and r.kind = any ($2) and r.mode = $3 and r.policy = $4 and r.state = 'running'),
  nextval('clerk_private.sweeps'))

-- name: take_over
update clerk_private.runs set epoch = epoch + 1, holder = $3, alive_at = now()
where sync = $1 and kind = $2 and state = 'running'
returning *

-- name: give_up
update clerk_private.runs set state = 'aborted', finished_at = now(), message = 'given up for another run' where id = $1

-- name: begin
insert into clerk_private.runs (sweep_id, sync, kind, mode, policy, holder) values ($1, $2, $3, $4, $5, $6) returning *

-- name: save
update clerk_private.runs set progress = $2, counts = $3, requests = $4, listed = $5, alive_at = now() where id = $1

-- name: finish
update clerk_private.runs set state = $2, message = $3, error = $4, finished_at = now() where id = $1

-- name: abort
update clerk_private.runs set state = 'aborted', message = $3, finished_at = now()
where sync = $1 and holder = $2 and state = 'running'

-- name: abandoned
select id, sync, epoch from clerk_private.runs
where state = 'running' and sync <> all ($1) and alive_at < now() - $2::interval

-- name: abort_abandoned
update clerk_private.runs set state = 'aborted', finished_at = now(),
  message = 'its ClerkSync or manifest is gone, and nobody goes on with it'
where id = $1 and epoch = $2 and state = 'running'

-- name: note
-- Findings of run $1; one that this run noted before gets its newer problem and action. A row that a hand removed is missing to a
-- run that only reports: still edited. Listed in one window and held in another: its created_at differs, nothing is extra.
insert into clerk_private.findings as f (run_id, kind, id, problem, action, expected_at, cause)
select distinct on (n.kind, n.id) $1, n.kind, n.id, n.problem, n.action, n.expected_at, n.cause
from unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[])
  with ordinality as n (kind, id, problem, action, expected_at, cause, place)
order by n.kind, n.id, n.place desc
on conflict (run_id, kind, id) do update set
  problem = case
    when f.problem = 'edited' and excluded.problem = 'missing' then 'edited'
    when 'extra' in (f.problem, excluded.problem) and f.problem <> excluded.problem
      and not 'edited' in (f.problem, excluded.problem) and not 'unadopted' in (f.problem, excluded.problem) then 'stale'
    when f.problem = 'unadopted' and excluded.problem = 'extra' then f.problem
    else excluded.problem end,
  action = case when excluded.problem = 'extra' and f.problem <> 'extra' then f.action else excluded.action end,
  expected_at = coalesce(excluded.expected_at, f.expected_at)

-- name: close_findings
-- Findings of kind $1 and ids $2 that wait for a read: it was made, and $3 came of it.
update clerk_private.findings f set action = $3
where f.kind = $1 and f.id = any ($2) and f.action in ('queued', 'awaiting second read')

-- name: extras
-- What the walk of run $1 did not list and nothing has been decided about, of kind $2; what a read waits for is left to that read.
select f.id, q.id is not null as queued
from clerk_private.findings f
left join clerk_private.verify_queue q on q.kind = f.kind and q.id = f.id and q.purpose = 'bury'
where f.run_id = $1 and f.kind = $2 and f.problem = 'extra' and f.action = 'reported'
order by f.id

-- name: same_parked
-- The run of sync $1 and kind $2 that waits with exactly these ids (digest $3).
select r.id from clerk_private.runs r
where split_part(r.sync, '/', 1) = split_part($1, '/', 1) and r.kind = $2 and r.state = 'parked' and r.parked_digest = $3

-- name: supersede
-- No run of sync $1 and kind $2 waits any more but run $3. Runs by hand beside a sync count with it.
update clerk_private.runs r set
  state = 'superseded', superseded_by = $3,
  message = case when r.state = 'superseded' then r.message else 'superseded by ' || $3::bigint end
where split_part(r.sync, '/', 1) = split_part($1, '/', 1) and r.kind = $2 and r.id <> $3
  and (r.state = 'parked' and r.parked_digest is not null or r.state = 'superseded' and r.superseded_by in (
    select x.id from clerk_private.runs x
    where split_part(x.sync, '/', 1) = split_part($1, '/', 1) and x.kind = $2 and x.state = 'parked' and x.parked_digest is not null))

-- name: settle_waiting
-- Runs of sync $1 that wait although every row of theirs is a tombstone by now: deleted with its parent, or by an event.
update clerk_private.runs r set
  state = 'completed', message = 'nothing is left to approve: its rows were deleted with their parents or by events'
where r.sync = $1 and r.state = 'parked' and r.parked_digest is not null and not exists (
  select from clerk_private.parked_deletions p
  where p.run_id = r.id and not exists (
    select from clerk_private.objects o where o.kind = p.kind and o.id = p.id and o.deleted_at is not null))

-- name: park_ids
insert into clerk_private.parked_deletions (run_id, kind, id) select $1, $2, unnest($3::text[]) on conflict do nothing

-- name: park
update clerk_private.runs set parked_digest = $2, waits_for = $3 where id = $1

-- name: parked_ids
select kind, id from clerk_private.parked_deletions where run_id = $1

-- name: approvable
select state, parked_digest, superseded_by from clerk_private.runs where id = $1

-- name: approve
update clerk_private.runs set approved_by = $2, approved_at = now() where id = $1

-- name: approved
select id, parked_digest from clerk_private.runs
where sync = $1 and kind = $2 and state = 'parked' and parked_digest is not null and approved_at > now() - $3::interval

-- name: take_approval_back
update clerk_private.runs set approved_at = null where id = $1

-- name: approval_done
update clerk_private.runs set state = 'completed', message = $2 where id = $1

-- name: waiting
select id, kind, message, approved_at > now() - interval '24 hours' as approved from clerk_private.runs
where sync = $1 and state = 'parked' and parked_digest is not null
order by id

-- name: repaired_before
-- Whether a sweep with the policy Fix has been through kind $1, whichever sync's.
select exists (
  select from clerk_private.runs
  where policy = 'Fix' and mode in ('full', 'deep') and kind = $1 and listed and state in ('completed', 'parked', 'superseded'))

-- name: latest
select * from clerk_private.runs where sync = $1 order by id desc limit 1

-- name: prune_findings
-- Findings of runs that ended more than $1 ago, $2 of them at most. What waits for a human stays.
delete from clerk_private.findings x
where x.ctid = any (array(
  select f.ctid from clerk_private.runs r join clerk_private.findings f on f.run_id = r.id
  where r.finished_at < now() - $1::interval and not (r.state = 'parked' and r.parked_digest is not null)
  limit $2))

-- name: prune_runs
-- Runs that ended more than $1 ago, $2 of them at most; the newest of each kind and mode stays, for the schedule.
delete from clerk_private.runs x
where x.id = any (array(
  select r.id from clerk_private.runs r
  where r.finished_at < now() - $1::interval and not (r.state = 'parked' and r.parked_digest is not null)
    and not exists (select from clerk_private.findings f where f.run_id = r.id)
    and r.id not in (
      select max(k.id) from clerk_private.runs k
      where k.state <> 'running' and (k.listed or k.mode = 'incremental')
      group by k.sync, k.kind, k.mode)
  order by r.id limit $2))

-- name: watermark
select updated_at from clerk_private.watermarks where sync = $1 and kind = $2

-- name: move_watermark
-- Up, never down.
insert into clerk_private.watermarks as w (sync, kind, updated_at) values ($1, $2, $3)
on conflict (sync, kind) do update set updated_at = greatest(w.updated_at, excluded.updated_at)

-- name: cause_marks
-- From when on events matter to the findings of run $1, of sync $2 and kind $3: those of the run itself, and earlier ones. An event's
-- time of receipt is that when its transaction began, hence a minute more. Given to the statements below as values: a planner that
-- does not know how few rows follow reads the whole inbox.
select
  (select r.started_at - interval '1 minute' from clerk_private.runs r where r.id = $1) as began,
  (select max(r.started_at) - interval '1 minute' from clerk_private.runs r where r.sync = $2 and r.kind = $3 and r.id < $1) as since

-- name: other_causes
-- Why each finding of run $1 came to be, where an event says more than that none came: parked, or received after the repair. Only
-- events that are parked, or came since the run began ($2), are looked at: what was applied before it left no difference.
with told as materialized (
  select i.kind, i.object_id, 'parked' as cause, i.received_at, i.observed_at
  from clerk_private.inbox i where i.state = 'parked' and i.object_id is not null
  union all
  select i.kind, i.object_id, 'received late', i.received_at, i.observed_at
  from clerk_private.inbox i
  where i.received_at > $2 and i.state <> 'parked' and i.object_id is not null
), judged as (
  select f.kind, f.id, min(t.cause) as cause  -- parked before received late
  from told t
  join clerk_private.findings f on f.run_id = $1 and f.kind = t.kind and f.id = t.object_id and f.cause = 'never received'
  where t.cause = 'parked' or t.received_at > f.found_at
    and t.observed_at >= coalesce(f.expected_at, 0) and t.observed_at < (extract(epoch from f.found_at) * 1000)::bigint
  group by f.kind, f.id
)
update clerk_private.findings f set cause = j.cause
from judged j
where f.run_id = $1 and f.kind = j.kind and f.id = j.id

-- name: late_causes
-- Findings of kind $1 that no event had told of, and one has since the former run of the kind began ($2).
with came as materialized (
  select i.kind, i.object_id, i.received_at, i.observed_at
  from clerk_private.inbox i
  where i.received_at > $2 and i.kind = $1 and i.object_id is not null
)
update clerk_private.findings f set cause = 'received late'
from came i
where f.kind = i.kind and f.id = i.object_id and f.cause = 'never received' and i.received_at > f.found_at
  and i.observed_at >= coalesce(f.expected_at, 0) and i.observed_at < (extract(epoch from f.found_at) * 1000)::bigint
