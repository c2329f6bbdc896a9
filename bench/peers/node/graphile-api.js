// Peer (d), the api: Fastify answers when Graphile Worker has stored the job in PostgreSQL. Likes that wait become one batch job,
// so that one transaction makes them all durable.

import { makeWorkerUtils } from "graphile-worker";
import pg from "pg";
import { gathered, serve, time } from "./contract.js";

const database = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 8 });
const utils = await makeWorkerUtils({ pgPool: database });

await serve({
  store: gathered((events) =>
    utils.addJob("likes", events.map((event) => ({ ...event, at: time(event.version) }))),
  ),
  read: async (user, video) => {
    const { rows } = await database.query({
      name: "read",
      text:
        "SELECT EXISTS (SELECT FROM video_likes WHERE user_id = $1 AND video_id = $2 AND deleted_at IS NULL) AS liked, " +
        "(SELECT like_count FROM likewise_like_counts WHERE resource_type = 'video' AND resource_id = $2) AS likes",
      values: [user, video],
    });
    return { liked: rows[0].liked, like_count: Number(rows[0].likes ?? 0) };
  },
});
