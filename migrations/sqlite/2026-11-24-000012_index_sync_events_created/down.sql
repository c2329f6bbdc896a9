DROP INDEX sync_events_created;
