DROP TABLE IF EXISTS likewise_idempotency_keys;
