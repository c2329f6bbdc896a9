DROP TABLE likewise_sync_event_history;
DROP TABLE sync_events;
