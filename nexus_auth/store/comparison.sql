-- name: held
select id, updated_at from clerk_private.held($1, $2, $3)

-- name: states
select id, deleted_at is not null as dead, buried_by, updated_at, observed_at, tombstone_seq
from clerk_private.objects where kind = $1 and id = any ($2)

-- name: differing
select * from clerk_private.differing($1, $2, $3::jsonb[])

-- name: edited
select last_id, id, problem from clerk_private.edited($1, $2, $3)

-- name: unadopted
select * from clerk_private.unadopted($1, $2)

-- name: burying
-- Of the ids $2 those whose deletion goes on.
select distinct b.id from clerk_private.burying b where b.kind = $1 and b.id = any ($2)

-- name: parents
select id, parents from clerk_private.typed_rows where kind = $1 and id = any ($2)

-- name: live
select count(*) from clerk_private.objects where kind = $1 and deleted_at is null
