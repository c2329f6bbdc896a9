DROP INDEX idempotency_keys_created ON idempotency_keys;
