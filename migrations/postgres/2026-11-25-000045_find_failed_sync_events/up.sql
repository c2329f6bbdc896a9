-- Only failed and dead rows are in it, so that a row which completes costs it nothing.
CREATE INDEX sync_events_failed ON sync_events (status, created_at, id)
    WHERE status = 'failed' OR status = 'dead';
