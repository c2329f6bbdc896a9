DROP TABLE IF EXISTS likewise_quarantined_events;
