-- What Clerk should count of kind $1, once everything is done that somebody already knows of, and the newest event.
with leaving (id) as (  -- still here, and known to be gone
  select d.id from clerk_private.parked_deletions d join clerk_private.runs r on r.id = d.run_id
  where d.kind = $1 and r.state = 'parked' and r.parked_digest is not null
  union
  select q.id from clerk_private.verify_queue q where q.kind = $1 and q.purpose = 'bury' and q.answers > 0
  union
  select b.id from clerk_private.burying b where b.kind = $1
  union
  select h.id from clerk_private.held_deletions h where h.kind = $1 and h.state = 'held'
    and h.there_at is null  -- what Clerk still has is counted there
  union
  select i.object_id from clerk_private.inbox i where i.state = 'parked' and i.kind = $1 and i.type like '%.deleted'
), coming (id) as (  -- told of, and not applied
  select i.object_id from clerk_private.inbox i
  where i.state = 'parked' and i.kind = $1 and i.type not like '%.deleted' and i.object_id is not null
    and not exists (select from clerk_private.objects o where o.kind = i.kind and o.id = i.object_id)
  union
  select f.id from clerk_private.refused_objects f
  where f.kind = $1 and not exists (select from clerk_private.objects o where o.kind = f.kind and o.id = f.id)
)
select
  (select count(*) from clerk_private.typed_rows t where t.kind = $1)
    - (select count(*) from leaving l join clerk_private.typed_rows t on t.kind = $1 and t.id = l.id)
    + (select count(*) from coming) as expected,
  (select max(i.received_at) from clerk_private.inbox i) as inbox_mark
