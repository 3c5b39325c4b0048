// An endpoint that lets @clerk/backend verify what really arrives. Prints its address, then one JSON line per request:
// {"ok": true, "type": …, "id": …, "instance": …} or {"ok": false, "error": …}. Stops when its standard input ends.
import { createServer } from 'node:http';
import { verifyWebhook } from '@clerk/backend/webhooks';

const signingSecret = process.env.CLERK_WEBHOOK_SIGNING_SECRET;

async function verified(incoming) {
  const chunks = [];
  for await (const chunk of incoming) chunks.push(chunk);
  const request = new Request(`http://127.0.0.1${incoming.url}`, {
    method: 'POST',
    headers: new Headers(incoming.headers),
    body: Buffer.concat(chunks),
  });
  const event = await verifyWebhook(request, { signingSecret });
  return { ok: true, type: event.type, id: event.data.id, instance: event.instance_id };
}

const server = createServer(async (incoming, answer) => {
  let line;
  try {
    line = await verified(incoming);
  } catch (error) {
    line = { ok: false, error: error.message };
  }
  answer.writeHead(line.ok ? 204 : 400).end();
  console.log(JSON.stringify(line));
});

server.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}/webhooks/clerk`));
process.stdin.resume().on('end', () => {
  server.close();
  server.closeAllConnections();
});
