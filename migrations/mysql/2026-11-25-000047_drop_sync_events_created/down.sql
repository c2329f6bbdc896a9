CREATE INDEX sync_events_created ON sync_events (created_at);
