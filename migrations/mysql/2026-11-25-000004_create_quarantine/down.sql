DROP TABLE IF EXISTS quarantined_events;
