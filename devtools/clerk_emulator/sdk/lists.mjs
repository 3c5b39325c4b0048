// Lists and counts by @clerk/backend, unchanged. Prints one JSON object.
import { createClerkClient } from '@clerk/backend';

const clerk = createClerkClient({ secretKey: process.env.CLERK_SECRET_KEY, apiUrl: process.env.CLERK_API_URL });
const { users, organizations } = clerk;
const ids = (list) => list.data.map((one) => one.id);
const said = {};

const first = await users.getUserList();
said.first = [first.data.length, first.totalCount];
const walked = [];
for (;;) {
  const page = await users.getUserList({ limit: 25, offset: walked.length, orderBy: '+created_at' });
  if (page.data.length === 0) break;
  walked.push(...ids(page));
}
said.walked = walked;
said.named = ids(await users.getUserList({ userId: [walked[0], walked[7], 'user_nobody'], orderBy: 'created_at' }));
const address = first.data[0].primaryEmailAddress.emailAddress;
said.byAddress = ids(await users.getUserList({ emailAddress: [address] }))[0] === first.data[0].id;
const middle = await users.getUser(walked[30]);
said.younger = await users.getUserList({ createdAtAfter: middle.createdAt, limit: 1 }).then((list) => list.data.length);
said.counted = [await users.getCount(), await users.getCount({ userId: [walked[0], 'user_nobody'] })];

const everywhere = await organizations.getOrganizationList({ limit: 500, includeMembersCount: true });
said.organizations = [everywhere.data.length, everywhere.totalCount];
said.members = 0;
for (const organization of everywhere.data) {
  const list = await organizations.getOrganizationMembershipList({ organizationId: organization.id, limit: 500 });
  if (list.totalCount !== organization.membersCount || list.data.length !== list.totalCount) throw new Error('count');
  said.members += list.totalCount;
}
const all = await organizations.getInstanceOrganizationMembershipList({ limit: 500 });
said.all = [all.data.length, all.totalCount];
const one = all.data[0];
const found = await organizations.getOrganizationMembershipList({
  organizationId: one.organization.id,
  userId: [one.publicUserData.userId],
});
said.found = ids(found)[0] === one.id && found.totalCount === 1;
said.places = (await users.getOrganizationMembershipList({ userId: one.publicUserData.userId })).totalCount > 0;
said.tooMany = await users.getUserList({ limit: 501 }).catch((error) => [error.status, error.errors[0].meta.paramName]);

console.log(JSON.stringify(said));
