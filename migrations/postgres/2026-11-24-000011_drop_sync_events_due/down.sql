CREATE INDEX sync_events_due ON sync_events (next_attempt_at) WHERE next_attempt_at IS NOT NULL;
