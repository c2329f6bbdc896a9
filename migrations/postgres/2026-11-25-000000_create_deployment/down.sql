DROP TABLE likewise_deployment;
