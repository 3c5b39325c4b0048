-- The next deliveries that match, in the order of their arrival, with their bodies; $1 to $5 as in inbox_list.sql. They come
-- after ($6, $7), are $8 at most, and the bodies of all but the last come to less than $9 bytes. Lengths cost no reading of the
-- bodies themselves.
with page as (
  select i.*
  from clerk_private.inbox i
  where i.received_at >= greatest($1, $6::timestamptz) and i.received_at < $2
    and ($3::text[] is null or i.type like any ($3))
    and ($4::text[] is null or i.svix_id = any ($4) or i.subjects && $4)
    and ($5::text[] is null or i.state = any ($5))
    and (i.received_at, i.svix_id) > ($6, $7::text)
    and i.outcome is distinct from 'erased'  -- its body is gone
  order by i.received_at, i.svix_id
  limit $8
), measured as (
  select p.*, sum(octet_length(p.body)) over (order by p.received_at, p.svix_id) - octet_length(p.body) as before
  from page p
)
select m.svix_id, m.received_at, m.type, m.state, m.observed_at, m.svix_timestamp, m.signature, m.secret, m.body,
  m.body_hmac is not null as withheld
from measured m
where m.before < $9
order by m.received_at, m.svix_id
