DROP TABLE IF EXISTS likewise_sync_event_history;
DROP TABLE IF EXISTS sync_events;
