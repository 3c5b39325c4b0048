-- How many deliveries match; $1 to $5 as in inbox_list.sql.
select count(*)
from clerk_private.inbox i
where i.received_at >= $1 and i.received_at < $2
  and ($3::text[] is null or i.type like any ($3))
  and ($4::text[] is null or i.svix_id = any ($4) or i.subjects && $4)
  and ($5::text[] is null or i.state = any ($5))
