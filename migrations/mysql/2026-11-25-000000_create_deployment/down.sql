DROP TABLE IF EXISTS likewise_deployment;
