DROP INDEX sync_events_due;
