DROP INDEX sync_events_failed;
