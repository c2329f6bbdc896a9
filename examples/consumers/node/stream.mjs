// Reads facts from the NATS stream LIKEWISE_FACTS, each once, in the order of its user and resource.
//
//     npm install @nats-io/transport-node @nats-io/jetstream
//     NATS_URL=nats://127.0.0.1:4222 node stream.mjs

import { AckPolicy, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";

// The newest version of each user and resource. Keep it with your data, and write both in one transaction: then a fact
// that comes again, or comes late, changes nothing.
const newest = new Map();

function handle(fact) {
  const pair = `${fact.user_id} ${fact.resource_type} ${fact.resource_id}`;
  if (fact.version <= (newest.get(pair) ?? 0)) return;
  newest.set(pair, fact.version);
  console.log(fact.fact, pair, String(fact.like_count));
}

const connection = await connect({ servers: process.env.NATS_URL ?? "nats://127.0.0.1:4222" });
const manager = await jetstreamManager(connection);
await manager.consumers.add("LIKEWISE_FACTS", {
  durable_name: "example-node",
  ack_policy: AckPolicy.Explicit,
});
const consumer = await jetstream(connection).consumers.get("LIKEWISE_FACTS", "example-node");
for await (const message of await consumer.consume()) {
  handle(message.json());
  message.ack();
}
