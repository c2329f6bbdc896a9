ALTER TABLE quarantined_events ADD COLUMN resolution TEXT;
ALTER TABLE quarantined_events ADD COLUMN resolved_by TEXT;
ALTER TABLE quarantined_events ADD COLUMN resolved_at TIMESTAMP;
