-- A run beside sync $1, under the name $2, looks back to where the sync has come to.
insert into clerk_private.watermarks as w (sync, kind, updated_at)
select $2, b.kind, b.updated_at from clerk_private.watermarks b where b.sync = $1
on conflict (sync, kind) do nothing
