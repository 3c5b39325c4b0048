-- The secrets that verified events of the last day, by fingerprint, each with the time of its last event.
select i.secret, max(i.received_at) as last
from clerk_private.inbox i
where i.received_at > now() - interval '1 day'
group by i.secret
