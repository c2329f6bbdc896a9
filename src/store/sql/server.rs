//! Connecting to a database that runs as a server.

/// Defines `open` and `connect_to_migrate` for a database that runs as a server, in a file that says how to
/// `establish` a connection of the service and `establish_to_migrate` one that may wait for locks.
macro_rules! sql_server {
    ($connection:ty) => {
        /// Pools that connect when they are used, once the gate is open.
        pub(super) fn open(
            schema: &'static Schema,
            options: &StoreOptions,
            gate: &Arc<Gate>,
        ) -> Result<Pools<AsyncDieselConnectionManager<$connection>>, StoreError> {
            let mut config = ManagerConfig::default();
            // A connection that the server has dropped meanwhile is noticed before it is used.
            config.recycling_method = RecyclingMethod::Verified;
            let lock_wait = lock_wait(options.timeout);
            config.custom_setup = Box::new(move |url| {
                let url = url.to_owned();
                Box::pin(async move { establish(&url, lock_wait).await })
            });
            let manager = AsyncDieselConnectionManager::new_with_config(&options.url, config);
            let connections = connections(manager, options.max_connections, options.timeout)?;
            Ok(Pools::new(
                schema,
                connections.clone(),
                connections,
                gate,
                true,
            ))
        }

        async fn connect_to_migrate(url: &str) -> Result<$connection, StoreError> {
            establish_to_migrate(url).await.map_err(StoreError::from)
        }
    };
}

pub(in crate::store) use sql_server;
