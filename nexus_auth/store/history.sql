-- What a schedule must know of sync $1 and each of the kinds $2: when runs of the kind began and ended, and what asks for one.
select k.kind,
  looks.looked_at,
  (select count(*) from clerk_private.runs r
   where r.sync = $1 and r.kind = k.kind and r.mode = 'incremental' and r.id > coalesce(looks.good, 0)
     and (r.state = 'failed' or r.state = 'parked' and r.waits_for is null)) as look_failures,
  (select max(r.finished_at) from clerk_private.runs r
   where r.sync = $1 and r.kind = k.kind and r.mode = 'incremental' and r.id > coalesce(looks.good, 0)
     and (r.state = 'failed' or r.state = 'parked' and r.waits_for is null)) as look_failed_at,
  sweeps.full_at, sweeps.first_full_at, sweeps.deep_at,
  (select count(*) from clerk_private.runs r
   where r.sync = $1 and r.kind = k.kind and r.mode <> 'incremental' and r.id > coalesce(sweeps.good, 0)
     and (r.state = 'failed' or r.state = 'parked' and r.waits_for is null)) as failures,
  (select max(r.finished_at) from clerk_private.runs r
   where r.sync = $1 and r.kind = k.kind and r.mode <> 'incremental' and r.id > coalesce(sweeps.good, 0)
     and (r.state = 'failed' or r.state = 'parked' and r.waits_for is null)) as failed_at,
  (select r.mode from clerk_private.runs r where r.sync = $1 and r.kind = k.kind and r.state = 'running') as running,
  coalesce(c.stands, false) as counts_differ,
  case when c.difference <> coalesce(c.left_standing, 0) and not c.stands then c.first_seen_at end as counts_doubted_at,
  exists (
    select from clerk_private.runs r
    where r.sync = $1 and r.kind = k.kind and r.state = 'parked' and r.parked_digest is not null
      and r.approved_at > now() - interval '24 hours') as approved,
  coalesce(q.next <= now(), false) as doubts_due,
  q.next as next_doubt_at,
  -- the webhook service has the first try, where it has an API key
  exists (
    select from clerk_private.held_deletions h
    where h.kind = k.kind and h.state = 'held' and h.not_before <= now() - interval '15 seconds') as held_due,
  -- the mark is answered for a kind by a run of that kind which began after it
  coalesce(i.sweep_requested_at > coalesce((
    select r.started_at from clerk_private.runs r
    where r.sync = $1 and r.kind = k.kind
      and (r.state in ('completed', 'superseded') or r.waits_for is not null and r.state <> 'running')
    order by r.id desc limit 1), '-infinity'), false) as requested,
  i.sweep_requested_at as requested_at,
  now() as now
from unnest($2::text[]) k (kind)
-- One row of an index each: runs are many, and this is asked every second.
left join lateral (
  select
    (select r.started_at from clerk_private.runs r
     where r.sync = $1 and r.kind = k.kind and r.mode = 'incremental' and r.state not in ('running', 'aborted')
     order by r.id desc limit 1) as looked_at,
    (select r.id from clerk_private.runs r
     where r.sync = $1 and r.kind = k.kind and r.mode = 'incremental'
       and (r.state in ('completed', 'superseded') or r.waits_for is not null and r.state <> 'running')
     order by r.id desc limit 1) as good) looks on true
left join lateral (
  select
    (select r.started_at from clerk_private.runs r
     where r.sync = $1 and r.kind = k.kind and r.mode <> 'incremental' and r.listed and r.state not in ('running', 'aborted')
     order by r.id desc limit 1) as full_at,
    (select r.started_at from clerk_private.runs r
     where r.sync = $1 and r.kind = k.kind and r.mode <> 'incremental' and r.listed and r.state not in ('running', 'aborted')
     order by r.id limit 1) as first_full_at,
    (select r.started_at from clerk_private.runs r
     where r.sync = $1 and r.kind = k.kind and r.mode <> 'incremental' and r.mode = 'deep' and r.listed
       and r.state not in ('running', 'aborted')
     order by r.id desc limit 1) as deep_at,
    (select r.id from clerk_private.runs r
     where r.sync = $1 and r.kind = k.kind and r.mode <> 'incremental'
       and (r.state in ('completed', 'superseded') or r.waits_for is not null and r.state <> 'running')
     order by r.id desc limit 1) as good) sweeps on true
left join clerk_private.count_checks c on c.sync = $1 and c.kind = k.kind
left join lateral (select min(v.not_before) as next from clerk_private.verify_queue v where v.kind = k.kind) q on true
left join clerk_private.instance i on true
