-- How a database stands: everything that one look at it should tell, besides its rows and runs.
select
  (select count(*) from clerk_private.objects o where o.deleted_at is not null) as tombstones,
  (select count(*) from clerk_private.parked p where p.resolved_at is null) as parked,
  (select count(*) from clerk_private.inbox i where i.state = 'waiting') as waiting,
  (select count(*) from clerk_private.burying) as burying,
  (select count(*) from clerk_private.verify_queue) as doubts,
  (select count(*) from clerk_private.held_deletions h where h.state = 'held') as held,
  (select count(*) from clerk_private.distrusted_secrets d where d.cleared_at is null) as distrusted,
  (select count(*) from clerk_private.refused_objects) as refused,
  (select max(s.received_at) from clerk_private.inbox_seen s) as last_event_at,
  (select max(w.updated_at) from clerk_private.watermarks w) as watermark,
  (select count(*) from clerk_private.runs r where r.state = 'parked' and r.parked_digest is not null
     and r.approved_at is null) as runs_to_approve,
  (select i.sweep_requested_at from clerk_private.instance i) as sweep_requested_at,
  now() as now
