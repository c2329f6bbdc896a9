ALTER TABLE sync_events DROP COLUMN failure_status;
