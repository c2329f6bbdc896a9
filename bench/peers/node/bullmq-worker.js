// Peer (b), the worker: BullMQ runs 64 jobs at a time, each one transaction of MariaDB in one round trip.

import { readFileSync } from "node:fs";
import { Worker } from "bullmq";
import mysql from "mysql2/promise";
import { metrics, time } from "./contract.js";
import { redis } from "./redis.js";

const CONCURRENCY = 64;

const database = mysql.createPool({ uri: process.env.DATABASE_URL, connectionLimit: CONCURRENCY });
// Without gap locks, two likes wait for each other only on the same video.
database.on("connection", (connection) => {
  connection.query("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED");
});
await database.query(readFileSync(new URL("../sql/peer_like.mysql.sql", import.meta.url), "utf8"));

let completed = 0;
const worker = new Worker(
  "likes",
  async ({ data: event }) => {
    await database.execute("SELECT peer_like(?, ?, ?, ?, ?, ?)", [
      event.event_id,
      event.user_id,
      event.video_id,
      event.action,
      event.version,
      time(event.version),
    ]);
    completed += 1;
  },
  { connection: redis(), concurrency: CONCURRENCY },
);
worker.on("failed", (_, error) => console.error(error.message));
worker.on("error", (error) => console.error(error.message));
metrics(() => completed);
