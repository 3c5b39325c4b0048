-- The arbiter's rows of one id ($1; of the kinds $2) and whether the typed row is there. A typed row may have no arbiter's row.
select coalesce(o.kind, t.kind) as kind, coalesce(o.id, t.id) as id, o.id is not null as arbitrated, t.id is not null as typed,
  o.updated_at, o.observed_at, o.source_rank, nullif(o.svix_id, '') as svix_id, o.deleted_at, o.buried_by, o.tombstone_seq,
  o.revived_at, o.source, o.projection, o.synced_at
from (select x.* from clerk_private.objects x where x.id = $1 and x.kind = any ($2::text[])) o
full join (select y.kind, y.id from clerk_private.typed_rows y where y.id = $1) t on t.kind = o.kind
order by 1
