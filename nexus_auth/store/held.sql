-- name: due
select kind, id, coalesce(parents, '{}') as parents from clerk_private.held_due($1)

-- name: answer
select clerk_private.answer_held($1, $2, $3, $4, make_interval(secs => $5))

-- name: seen
select clerk_private.verifier_seen(make_interval(secs => $1))

-- name: settle
select clerk_private.settle_held($1, $2, $3)

-- name: clear
select clerk_private.clear_secret($1, $2)

-- name: listing
-- Held deletion events that no one has decided, the oldest first; with $1 all of them, the newest decisions first.
select h.svix_id, h.kind, h.id, h.secret, h.reason, h.state, h.held_at, h.there_at is not null as found_once, h.decided_at, h.decided_by
from clerk_private.held_deletions h
where $1 or h.state = 'held'
order by h.state <> 'held', case when h.state = 'held' then h.held_at end, h.decided_at desc, h.svix_id
limit $2

-- name: chosen
-- Events that are held, by their own id or by the id of their object.
select h.svix_id from clerk_private.held_deletions h where h.state = 'held' and (h.svix_id = any ($1) or h.id = any ($1))

-- name: distrusted
select s.secret, s.since from clerk_private.distrusted_secrets s where s.cleared_at is null order by s.since
