-- Of the ids $4 those that no delivery is, or speaks of, among the deliveries that match; $1 to $5 as in inbox_list.sql.
select named.id
from unnest($4::text[]) named (id)
where named.id not in (
  select unnest(array[i.svix_id] || i.subjects)
  from clerk_private.inbox i
  where i.received_at >= $1 and i.received_at < $2
    and ($3::text[] is null or i.type like any ($3))
    and (i.svix_id = any ($4) or i.subjects && $4)
    and ($5::text[] is null or i.state = any ($5)))
