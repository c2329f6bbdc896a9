DROP INDEX sync_events_due ON sync_events;
