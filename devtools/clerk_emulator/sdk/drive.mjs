// Drives the Backend API by @clerk/backend, unchanged: users, organizations, memberships. Prints one JSON object.
import { createClerkClient } from '@clerk/backend';

const clerk = createClerkClient({ secretKey: process.env.CLERK_SECRET_KEY, apiUrl: process.env.CLERK_API_URL });
const { users, organizations } = clerk;
const said = {};

const user = await users.createUser({
  emailAddress: ['node@example.com'],
  firstName: 'Node',
  publicMetadata: { plan: 'pro' },
});
said.created = [user.id, user.primaryEmailAddress.emailAddress, user.publicMetadata.plan];
said.updated = (await users.updateUser(user.id, { lastName: 'Js' })).lastName;
said.metadata = (await users.updateUserMetadata(user.id, { publicMetadata: { seats: 3 } })).publicMetadata;
said.banned = [(await users.banUser(user.id)).banned, (await users.unbanUser(user.id)).banned];
const listed = await users.getUserList({ limit: 5, orderBy: '-created_at' });
said.users = [listed.data[0].id, listed.data.length, listed.totalCount];

const organization = await organizations.createOrganization({ name: 'Node Works', createdBy: user.id });
said.slug = organization.slug;
said.bySlug = (await organizations.getOrganization({ slug: organization.slug })).id === organization.id;
said.renamed = (await organizations.updateOrganization(organization.id, { name: 'Node Labs' })).name;
const guest = listed.data[1].id;
const place = { organizationId: organization.id, userId: guest };
said.role = (await organizations.createOrganizationMembership({ ...place, role: 'org:member' })).role;
said.promoted = (await organizations.updateOrganizationMembership({ ...place, role: 'org:admin' })).role;
said.team = (
  await organizations.updateOrganizationMembershipMetadata({ ...place, publicMetadata: { team: 'red' } })
).publicMetadata.team;
const members = await organizations.getOrganizationMembershipList({ organizationId: organization.id, limit: 10 });
said.members = [members.totalCount, members.data.map((one) => one.publicUserData.userId).includes(guest)];
said.places = (await users.getOrganizationMembershipList({ userId: user.id })).data[0].organization.id === organization.id;
said.left = (await organizations.deleteOrganizationMembership(place)).publicUserData.userId === guest;
said.organizations = (await organizations.getOrganizationList({ includeMembersCount: true })).data[0].membersCount;
await organizations.deleteOrganization(organization.id);
said.deleted = (await users.deleteUser(user.id)).id === user.id;
said.gone = await users.getUser(user.id).catch((error) => [error.status, error.errors[0].code]);

console.log(JSON.stringify(said));
