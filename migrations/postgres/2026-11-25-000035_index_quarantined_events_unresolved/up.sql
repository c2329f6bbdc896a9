CREATE INDEX quarantined_events_unresolved ON quarantined_events (subject text_pattern_ops)
    WHERE resolved_at IS NULL;
