//! Connecting to a database that runs as a server.

/// Defines `connect` and `migrate` for a database that runs as a server, in a file that says how to
/// `establish` a connection, which `MIGRATIONS` there are and what holds the `MIGRATION_LOCK`.
macro_rules! sql_server {
    ($store:ident) => {
        /// Connects to the database, whose tables must be there.
        pub(super) async fn connect(options: &StoreOptions) -> Result<$store, StoreError> {
            let mut config = ManagerConfig::default();
            // A connection that the server has dropped meanwhile is noticed before it is used.
            config.recycling_method = RecyclingMethod::Verified;
            let lock_wait = lock_wait(options.timeout);
            config.custom_setup = Box::new(move |url| {
                let url = url.to_owned();
                Box::pin(async move { establish(&url, lock_wait).await })
            });
            let manager = AsyncDieselConnectionManager::new_with_config(&options.url, config);
            let connections = pool(manager, options.max_connections, options.timeout)?;
            let store = $store::new(connections.clone(), connections, options.timeout);
            store.ping().await?;
            Ok(store)
        }

        /// Brings the database's tables up to date; answers the names of the migrations that this ran.
        pub(super) async fn migrate(options: &StoreOptions) -> Result<Vec<String>, StoreError> {
            let connecting = establish(&options.url, lock_wait(options.timeout));
            let connecting = tokio::time::timeout(options.timeout, connecting);
            let mut connection = connecting
                .await
                .map_err(|_| StoreError::TimedOut(options.timeout))?
                .map_err(|error| StoreError::Unavailable(error.to_string()))?;
            if let Err(error) = connection.batch_execute(MIGRATION_LOCK).await {
                return Err(connection.explain(error).await);
            }
            // The harness blocks, which this runtime's only thread must not.
            let migrate = tokio::task::spawn_blocking(move || {
                AsyncMigrationHarness::new(connection)
                    .run_pending_migrations(MIGRATIONS)
                    .map(|ran| ran.iter().map(ToString::to_string).collect())
                    .map_err(|error| StoreError::Migration(error.to_string()))
            });
            migrate
                .await
                .map_err(|error| StoreError::Migration(error.to_string()))?
        }
    };
}

pub(in crate::store) use sql_server;
