CREATE INDEX sync_event_history_event ON sync_event_history (event_id);
