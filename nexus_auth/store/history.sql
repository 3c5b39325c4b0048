-- What a schedule must know of sync $1: when each kind of run last completed, and what asks for one at once.
select
  (select max(r.started_at) from clerk_private.runs r
   where r.sync = $1 and r.mode = 'incremental' and r.state not in ('running', 'aborted')) as incremental_at,
  (select max(r.started_at) from clerk_private.runs r where r.sync = $1 and r.mode = 'deep'
     and (r.state = 'completed' or r.parked_digest is not null and r.state <> 'running')) as deep_at,
  (select coalesce(jsonb_object_agg(k.kind, k.at), '{}') from (
     select kind, extract(epoch from max(r.started_at)) as at
     from clerk_private.runs r cross join unnest(r.kinds) kind
     where r.sync = $1 and r.mode in ('full', 'deep') and r.state <> 'running' and r.progress ->> kind = 'done'
     group by kind) k) as full_at,
  (select max(r.finished_at) from clerk_private.runs r where r.sync = $1 and r.mode <> 'incremental'
     and (r.state = 'failed' or r.state = 'parked' and r.parked_digest is null)) as failed_at,
  (select case when r.state <> 'completed' then r.finished_at end from clerk_private.runs r
   where r.sync = $1 and r.mode = 'incremental' and r.state not in ('running', 'aborted') order by r.id desc limit 1) as in_vain_at,
  (select r.mode || ' ' || array_to_string(r.kinds, ',') from clerk_private.runs r
   where r.sync = $1 and r.state = 'running') as running,
  exists (
    select from clerk_private.runs r
    where r.sync = $1 and r.state = 'parked' and r.approved_at > now() - interval '24 hours') as approved,
  exists (select from clerk_private.verify_queue q where q.not_before <= now()) as doubts_due,
  (select coalesce(array_agg(c.kind), '{}') from clerk_private.count_checks c where c.sync = $1 and c.stands) as counts_differ,
  (select min(c.first_seen_at) from clerk_private.count_checks c
   where c.sync = $1 and c.difference <> coalesce(c.left_standing, 0) and not c.stands) as counts_doubted_at,
  (select i.sweep_requested_at from clerk_private.instance i) as requested_at,
  now() as now
