CREATE INDEX sync_events_due ON sync_events (next_attempt_at);
