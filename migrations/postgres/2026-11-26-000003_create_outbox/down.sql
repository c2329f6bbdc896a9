DROP TABLE likewise_outbox;
