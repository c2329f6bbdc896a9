// The connection to Redis, as BullMQ wants it.

export function redis() {
  const url = new URL(process.env.REDIS_URL);
  return { host: url.hostname, port: Number(url.port), maxRetriesPerRequest: null };
}
