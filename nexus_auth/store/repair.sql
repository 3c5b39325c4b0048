-- name: repair
select clerk_private.repair($1, $2, $3::clerk_private.change[])

-- name: undo_edits
select clerk_private.undo_edits($1, $2, $3, $4)

-- name: revive
select clerk_private.revive($1, $2, $3::clerk_private.change, $4)

-- name: lower_version
select clerk_private.lower_version($1, $2, $3::clerk_private.change)

-- name: set_guard
select clerk_private.set_guard($1, $2, $3)

-- name: weigh
select w.kind, w.more, w.deleted, w.live, w.allowed, w.fits from clerk_private.weigh_deletions($1, $2) w order by w.kind

-- name: bury
select clerk_private.bury_verified($1, $2, $3, $4, $5, $6)

-- name: keep_refused
insert into clerk_private.refused_objects as r (kind, id, error, object, run_id) values ($1, $2, $3, $4, $5)
on conflict (kind, id) do update set
  error = excluded.error, object = excluded.object, run_id = excluded.run_id, refused_at = now(), attempts = r.attempts + 1

-- name: forget_refused
delete from clerk_private.refused_objects where kind = $1 and id = any ($2)

-- name: refused_ids
select id from clerk_private.refused_objects where kind = $1
