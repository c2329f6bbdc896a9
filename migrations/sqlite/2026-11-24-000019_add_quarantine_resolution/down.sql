ALTER TABLE quarantined_events DROP COLUMN resolution;
ALTER TABLE quarantined_events DROP COLUMN resolved_by;
ALTER TABLE quarantined_events DROP COLUMN resolved_at;
