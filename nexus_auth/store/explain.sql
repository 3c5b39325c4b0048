-- Everything that is known of one id ($1, of the kinds $2), in the order of time, the newest thousand. Nothing that events hold is in it.
with events as materialized (
  select i.received_at, i.svix_id, i.type, i.state, i.outcome, i.observed_at, i.kind, i.object_id
  from clerk_private.inbox i where i.subjects @> array[$1::text] or i.object_id = $1
), told as (
  select i.received_at as at, 'event' as what, i.kind, i.object_id as id, jsonb_build_object(
      'svix_id', i.svix_id, 'type', i.type, 'state', i.state, 'outcome', i.outcome, 'observed_at', i.observed_at) as detail
  from events i
  union all
  select p.parked_at, 'event parked', i.kind, i.object_id, jsonb_build_object(
      'svix_id', p.svix_id, 'error', p.error, 'attempts', p.attempts, 'resolved_at', p.resolved_at)
  from events i join clerk_private.parked p on p.svix_id = i.svix_id
  union all
  select f.found_at, 'finding', f.kind, f.id, jsonb_build_object(
      'run', f.run_id, 'sync', r.sync, 'mode', r.mode, 'policy', r.policy, 'problem', f.problem, 'action', f.action,
      'cause', f.cause, 'expected_at', f.expected_at)
  from clerk_private.findings f join clerk_private.runs r on r.id = f.run_id
  where f.id = $1 and f.kind = any ($2::text[])
  union all
  select coalesce(r.finished_at, r.alive_at), 'deletion parked', d.kind, d.id, jsonb_build_object(
      'run', d.run_id, 'state', r.state, 'approved_by', r.approved_by, 'approved_at', r.approved_at)
  from clerk_private.parked_deletions d join clerk_private.runs r on r.id = d.run_id where d.id = $1
  union all
  select q.queued_at, 'verification queued', q.kind, q.id, jsonb_build_object(
      'purpose', q.purpose, 'not_before', q.not_before, 'answers', q.answers)
  from clerk_private.verify_queue q where q.id = $1
  union all
  select b.since, 'burial open', b.kind, b.id, jsonb_build_object(
      'reason', b.reason, 'constraint', b.constraint_name, 'attempts', b.attempts)
  from clerk_private.burying b where b.id = $1
  union all
  select h.held_at, 'deletion held', h.kind, h.id, jsonb_build_object(
      'svix_id', h.svix_id, 'secret', h.secret, 'reason', h.reason, 'state', h.state, 'there_at', h.there_at,
      'decided_at', h.decided_at, 'decided_by', h.decided_by)
  from clerk_private.held_deletions h where h.id = $1
  union all
  select x.refused_at, 'refused by Postgres', x.kind, x.id, jsonb_build_object(
      'error', x.error, 'attempts', x.attempts, 'run', x.run_id)
  from clerk_private.refused_objects x where x.id = $1
  union all
  select o.synced_at, 'last applied', o.kind, o.id, jsonb_build_object(
      'source', o.source, 'svix_id', nullif(o.svix_id, ''), 'updated_at', o.updated_at, 'observed_at', o.observed_at)
  from clerk_private.objects o where o.id = $1 and o.kind = any ($2::text[])
)
select newest.* from (select t.* from told t order by t.at desc, t.what limit 1000) newest
order by newest.at, newest.what
