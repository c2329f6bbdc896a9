// What the peers in Node.js share: the HTTP contract of Likewise, and the counter that the benchmark reads.

import { randomBytes } from "node:crypto";
import { createServer } from "node:http";
import Fastify from "fastify";

/** The address to listen on, from the benchmark. */
function listen() {
  const [host, port] = process.env.LISTEN.split(":");
  return { host, port: Number(port) };
}

function listening({ address, port }) {
  console.error(`listening on http://${address}:${port}`);
}

/** A UUID v7: ids in the order of their time keep inserts at the end of an index. */
export function uuid() {
  const bytes = randomBytes(16);
  bytes.writeUIntBE(Date.now(), 0, 6);
  bytes[6] = (bytes[6] & 0x0f) | 0x70;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = bytes.toString("hex");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

const start = BigInt(Date.now()) * 1000n - process.hrtime.bigint() / 1000n;
let last = 0n;

/** Microseconds since 1970, each later than the one before. */
function version() {
  const now = start + process.hrtime.bigint() / 1000n;
  last = now > last ? now : last + 1n;
  return Number(last);
}

/** A time of the database, from microseconds since 1970. */
export function time(version) {
  const milliseconds = Math.floor(version / 1000);
  const rest = String(version % 1000).padStart(3, "0");
  return new Date(milliseconds).toISOString().replace("T", " ").replace("Z", rest);
}

/** Serves likes: `store` makes an event durable, `read` returns a state. */
export async function serve({ store, read }) {
  const app = Fastify({ logger: false });
  const user = (request) => Number(request.headers["x-user-id"]);
  const change = (action) => async (request, reply) => {
    const event = {
      event_id: uuid(),
      user_id: user(request),
      video_id: Number(request.params.video),
      action,
      version: version(),
    };
    if (!(event.user_id > 0 && event.video_id > 0)) {
      return reply.code(400).send();
    }
    await store(event);
    return {
      event_id: event.event_id,
      resource_type: "video",
      resource_id: event.video_id,
      user_id: event.user_id,
      liked: action === "like",
      changed: null,
      like_count: null,
      durability: "broker",
      cached: false,
    };
  };
  app.put("/v1/videos/:video/like", change("like"));
  app.delete("/v1/videos/:video/like", change("unlike"));
  app.get("/v1/videos/:video/like", async (request) => {
    const [user_id, resource_id] = [user(request), Number(request.params.video)];
    const { liked, like_count } = await read(user_id, resource_id);
    return { resource_type: "video", resource_id, user_id, liked, like_count };
  });
  app.get("/metrics", async () => "likewise_ledger_rows_completed_total 0\n");
  await app.listen(listen());
  listening(app.server.address());
}

/** Serves the number of completed likes. */
export function metrics(completed) {
  const server = createServer((_, response) => {
    response.end(`likewise_ledger_rows_completed_total ${completed()}\n`);
  });
  const { host, port } = listen();
  server.listen(port, host, () => listening(server.address()));
}

/** Gathers what is asked for while one call is under way, and makes the next call with all of it. */
export function gathered(call) {
  let waiting = [];
  let busy = false;
  const run = async () => {
    busy = true;
    while (waiting.length > 0) {
      const batch = waiting;
      waiting = [];
      try {
        await call(batch.map(({ item }) => item));
        batch.forEach(({ resolve }) => resolve());
      } catch (error) {
        batch.forEach(({ reject }) => reject(error));
      }
    }
    busy = false;
  };
  return (item) =>
    new Promise((resolve, reject) => {
      waiting.push({ item, resolve, reject });
      // Requests of the same turn of the event loop come along.
      if (!busy) {
        busy = true;
        setImmediate(run);
      }
    });
}
