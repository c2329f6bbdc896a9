CREATE INDEX sync_events_due_by_priority ON sync_events (priority, next_attempt_at)
    WHERE next_attempt_at IS NOT NULL;
