// Peer (d), the worker: Graphile Worker runs four batch jobs at a time, each one call of a function in PostgreSQL. Jobs are
// fetched and completed in batches, as its authors do in their own benchmark.

import { readFileSync } from "node:fs";
import { makeWorkerUtils, run } from "graphile-worker";
import pg from "pg";
import { metrics } from "./contract.js";

const CONCURRENCY = 4;

const database = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: CONCURRENCY + 4 });
await database.query(readFileSync(new URL("../sql/peer_likes.postgres.sql", import.meta.url), "utf8"));
const utils = await makeWorkerUtils({ pgPool: database });
await utils.migrate();

let completed = 0;
const runner = await run({
  pgPool: database,
  noHandleSignals: true,
  preset: {
    worker: {
      concurrentJobs: CONCURRENCY,
      localQueue: { size: 50 },
      completeJobBatchDelay: 0,
      failJobBatchDelay: 0,
    },
  },
  taskList: {
    likes: async (events, helpers) => {
      await helpers.query({ name: "likes", text: "SELECT peer_likes($1)", values: [JSON.stringify(events)] });
      completed += events.length;
    },
  },
});
runner.promise.catch((error) => {
  console.error(error);
  process.exit(1);
});
metrics(() => completed);
