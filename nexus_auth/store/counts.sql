-- What Clerk should count of the kinds $1, once everything is done that somebody already knows of, and the newest event.
with leaving (kind, id) as (  -- held still, and known to be gone
  select d.kind, d.id from clerk_private.parked_deletions d join clerk_private.runs r on r.id = d.run_id
  where r.state = 'parked' and not exists (
    select from clerk_private.runs n
    where n.sync = r.sync and n.id > r.id and n.mode <> 'incremental' and n.state <> 'running' and n.progress ->> d.kind = 'done')
  union
  select b.kind, b.id from clerk_private.burying b
  union
  select i.kind, i.object_id from clerk_private.inbox i where i.state = 'parked' and i.type like '%.deleted'
), coming (kind, id) as (  -- told of, and not applied
  select distinct i.kind, i.object_id from clerk_private.inbox i
  where i.state = 'parked' and i.type not like '%.deleted' and i.object_id is not null
    and not exists (select from clerk_private.objects o where o.kind = i.kind and o.id = i.object_id)
)
select k.kind,
  case k.kind
    when 'user' then (select count(*) from clerk.users)
      - (select count(*) from leaving l join clerk.users u on u.id = l.id where l.kind = 'user')
    when 'organization' then (select count(*) from clerk.organizations)
      - (select count(*) from leaving l join clerk.organizations g on g.id = l.id where l.kind = 'organization')
    else (select count(*) from clerk.organization_memberships)
      - (select count(*) from leaving l join clerk.organization_memberships m on m.id = l.id
         where l.kind = 'organization_membership')
  end + (select count(*) from coming c where c.kind = k.kind) as expected,
  (select max(i.received_at) from clerk_private.inbox i) as inbox_mark
from unnest($1::text[]) k (kind)
