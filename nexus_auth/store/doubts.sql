-- name: queue
-- Asks for reads of objects of kind $1, the first in $5 seconds. One that is queued for the same purpose stays as it is.
insert into clerk_private.verify_queue as q (kind, id, purpose, tombstone_seq, parents, answers, not_before)
select $1, n.id, $2, n.tombstone_seq, string_to_array(n.parents, ' '), $6, now() + make_interval(secs => $5)
from unnest($3::text[], $4::bigint[], $7::text[]) as n (id, tombstone_seq, parents)
on conflict (kind, id) do update set
  purpose = excluded.purpose, tombstone_seq = excluded.tombstone_seq, parents = excluded.parents, answers = excluded.answers,
  answer_at = null, not_before = excluded.not_before, queued_at = now()
where q.purpose <> excluded.purpose or q.tombstone_seq is distinct from excluded.tombstone_seq

-- name: due
select kind, id, purpose, tombstone_seq, parents, answers, answer_at, queued_at < now() - interval '1 day' as old
from clerk_private.verify_queue
where kind = $1 and not_before <= now()
order by not_before, id

-- name: answered
-- A first read of kind $1 and id $2 agreed: the second in $4 seconds.
update clerk_private.verify_queue set answers = 1, answer_at = $3, not_before = now() + make_interval(secs => $4)
where kind = $1 and id = $2

-- name: postpone
-- Nothing was proved: asked again later, else what is due now is due for ever.
update clerk_private.verify_queue set not_before = now() + make_interval(secs => $3) where kind = $1 and id = any ($2)

-- name: forget
delete from clerk_private.verify_queue where kind = $1 and id = any ($2)

-- name: queued
select id, tombstone_seq, answers from clerk_private.verify_queue where kind = $1 and id = any ($2) and purpose = $3
