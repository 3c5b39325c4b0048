-- Everything about one delivery: when it was seen, what is stored, why it is parked, and the row that arbitrates its object.
-- Both rows of a delivery carry its transaction's time: one partition is looked into.
select s.svix_id, s.received_at, i.svix_id is not null as stored, i.svix_timestamp, i.signature, i.secret, i.type, i.instance_id,
  i.observed_at, i.kind, i.object_id, i.subjects, i.state, i.outcome, i.body, i.body_hmac is not null as withheld,
  p.parked_at, p.error, p.attempts, p.resolved_at,
  o.id is not null as arbitrated, o.updated_at as object_updated_at, o.observed_at as object_observed_at,
  o.source_rank as object_source_rank, o.svix_id as object_svix_id, o.deleted_at as object_deleted_at,
  o.buried_by as object_buried_by, o.revived_at as object_revived_at, o.projection as object_projection,
  o.source as object_source, o.synced_at as object_synced_at
from clerk_private.inbox_seen s
left join clerk_private.inbox i on i.received_at = s.received_at and i.svix_id = s.svix_id
left join clerk_private.parked p on p.svix_id = s.svix_id
left join clerk_private.objects o on o.kind = i.kind and o.id = i.object_id
where s.svix_id = $1
