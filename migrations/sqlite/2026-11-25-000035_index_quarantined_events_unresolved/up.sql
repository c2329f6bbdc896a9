-- LIKE ignores case, and uses an index that does.
CREATE INDEX quarantined_events_unresolved ON quarantined_events (subject COLLATE NOCASE)
    WHERE resolved_at IS NULL;
