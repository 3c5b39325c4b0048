-- The arbiter's rows of one id ($1; an id has one kind, unless somebody made two) and whether the typed row is there.
select o.kind, o.id, o.updated_at, o.observed_at, o.source_rank, nullif(o.svix_id, '') as svix_id, o.deleted_at, o.buried_by,
  o.tombstone_seq, o.revived_at, o.source, o.projection, o.synced_at, case o.kind
    when 'user' then exists (select from clerk.users u where u.id = o.id)
    when 'organization' then exists (select from clerk.organizations g where g.id = o.id)
    when 'organization_membership' then exists (select from clerk.organization_memberships m where m.id = o.id)
  end as typed
from clerk_private.objects o
where o.id = $1 and o.kind in ('user', 'organization', 'organization_membership')
order by o.kind
