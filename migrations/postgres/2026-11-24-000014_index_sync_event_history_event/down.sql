DROP INDEX sync_event_history_event;
