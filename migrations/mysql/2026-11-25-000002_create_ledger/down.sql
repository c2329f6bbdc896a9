DROP TABLE IF EXISTS sync_event_history;
DROP TABLE IF EXISTS sync_events;
