DROP TABLE sync_event_history;
