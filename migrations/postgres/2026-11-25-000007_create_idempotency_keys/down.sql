DROP TABLE likewise_idempotency_keys;
