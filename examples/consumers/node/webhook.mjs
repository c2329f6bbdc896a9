// Receives webhooks of Likewise and verifies their signatures. It needs no packages.
//
//     WEBHOOK_SECRET=whsec_... PORT=9000 node webhook.mjs

import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const KEY = Buffer.from(process.env.WEBHOOK_SECRET.replace(/^whsec_/, ""), "base64");
const TOLERANCE_SECONDS = 300;

// As in stream.mjs: keep it with your data.
const newest = new Map();

function isSigned(headers, body) {
  const id = headers["webhook-id"];
  const timestamp = headers["webhook-timestamp"];
  if (!id || !/^[0-9]+$/.test(timestamp ?? "")) return false;
  if (Math.abs(Date.now() / 1000 - Number(timestamp)) > TOLERANCE_SECONDS) return false;
  const signature = createHmac("sha256", KEY).update(`${id}.${timestamp}.`).update(body);
  const expected = Buffer.from(`v1,${signature.digest("base64")}`);
  // During a rotation there are two signatures.
  const signatures = (headers["webhook-signature"] ?? "").split(" ").map((one) => Buffer.from(one));
  return signatures.some((one) => one.length === expected.length && timingSafeEqual(one, expected));
}

function handle(fact) {
  const pair = `${fact.user_id} ${fact.resource_type} ${fact.resource_id}`;
  if (fact.version <= (newest.get(pair) ?? 0)) return;
  newest.set(pair, fact.version);
  console.log(fact.fact, pair, String(fact.like_count));
}

const server = createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks);
  if (isSigned(request.headers, body)) {
    JSON.parse(body).data.forEach(handle);
    response.writeHead(204).end();
  } else {
    response.writeHead(401).end();
  }
});
server.listen(Number(process.env.PORT ?? 9000), "127.0.0.1", () => {
  console.log("listening on", server.address().port);
});
