-- The newest deliveries that match, without their bodies. $1, $2: received from (inclusive) and until (exclusive). $3: patterns
-- of the type, $4: svix-ids or ids of objects, $5: states; each null for any. $6: rows at most.
select i.svix_id, i.received_at, i.type, i.state, i.outcome, i.kind, i.object_id, i.subjects, i.observed_at, i.instance_id,
  i.secret, i.body_hmac is not null as withheld, octet_length(i.body) as size, p.error, p.attempts
from clerk_private.inbox i
left join clerk_private.parked p on p.svix_id = i.svix_id and p.resolved_at is null
where i.received_at >= $1 and i.received_at < $2
  and ($3::text[] is null or i.type like any ($3))
  and ($4::text[] is null or i.svix_id = any ($4) or i.subjects && $4)
  and ($5::text[] is null or i.state = any ($5))
order by i.received_at desc, i.svix_id desc
limit $6
