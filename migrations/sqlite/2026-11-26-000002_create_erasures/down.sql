DROP TABLE likewise_erasure_epoch;
DROP TABLE likewise_erasures;
