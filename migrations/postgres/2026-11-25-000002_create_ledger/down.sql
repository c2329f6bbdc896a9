DROP TABLE sync_event_history;
DROP TABLE sync_events;
