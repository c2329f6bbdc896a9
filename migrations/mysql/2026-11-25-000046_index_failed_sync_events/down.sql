DROP INDEX sync_events_failed ON sync_events;
