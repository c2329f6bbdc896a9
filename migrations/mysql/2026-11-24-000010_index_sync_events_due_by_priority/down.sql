DROP INDEX sync_events_due_by_priority ON sync_events;
