// Peer (b), the api: Fastify answers when BullMQ has stored the job in Redis. Jobs that wait are added in one round trip.

import { Queue } from "bullmq";
import mysql from "mysql2/promise";
import { gathered, serve } from "./contract.js";
import { redis } from "./redis.js";

const queue = new Queue("likes", { connection: redis() });
const options = { removeOnComplete: true, attempts: 20 };
const database = mysql.createPool({ uri: process.env.DATABASE_URL, connectionLimit: 8 });

await serve({
  store: gathered((events) => queue.addBulk(events.map((data) => ({ name: "like", data, opts: options })))),
  read: async (user, video) => {
    const [rows] = await database.execute(
      "SELECT (SELECT COUNT(*) FROM video_likes WHERE user_id = ? AND video_id = ? AND deleted_at IS NULL) AS liked, " +
        "(SELECT like_count FROM likewise_like_counts WHERE resource_type = 'video' AND resource_id = ?) AS likes",
      [user, video, video],
    );
    return { liked: rows[0].liked === 1, like_count: rows[0].likes ?? 0 };
  },
});
