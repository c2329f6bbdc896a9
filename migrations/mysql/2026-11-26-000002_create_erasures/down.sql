DROP TABLE IF EXISTS likewise_erasure_epoch;
DROP TABLE IF EXISTS likewise_erasures;
