//! What the pipeline asks of the database: record, sync, fail, claim; and what readers look up.

/// Defines `$store`, the [`Store`](super::Store) over connections of this type in this dialect; `$begin`
/// starts a transaction that will write.
macro_rules! sql_store {
    ($store:ident, $connection:ty, $dialect:expr, $begin:ident) => {
        /// The store over this database.
        pub(super) struct $store {
            writers: Pool<AsyncDieselConnectionManager<$connection>>,
            statements: Statements,
            clock: Arc<DatabaseClock>,
            timeout: Duration,
        }

        impl $store {
            /// A store over these pools.
            pub(super) fn new(
                pools: &Pools<AsyncDieselConnectionManager<$connection>>,
                clock: &Arc<DatabaseClock>,
                timeout: Duration,
            ) -> Self {
                let pools = pools.clone();
                Self {
                    writers: pools.writers,
                    statements: Statements::new(&$dialect),
                    clock: Arc::clone(clock),
                    timeout,
                }
            }

            async fn execute(
                connection: &mut $connection,
                statement: &Statement,
                params: &[Param],
            ) -> Result<(), StoreError> {
                Self::affect(connection, statement, params).await.map(drop)
            }

            /// Executes a statement; answers how many rows the database says it was about.
            async fn affect(
                connection: &mut $connection,
                statement: &Statement,
                params: &[Param],
            ) -> Result<usize, StoreError> {
                let done = RunQueryDsl::execute(Query { statement, params }, connection).await;
                explained(connection, done).await
            }

            async fn load<T>(
                connection: &mut $connection,
                statement: &Statement,
                params: &[Param],
            ) -> Result<Vec<T>, StoreError>
            where
                T: QueryableByName<<$connection as AsyncConnectionCore>::Backend> + Send + 'static,
            {
                let loaded = RunQueryDsl::load(Query { statement, params }, connection).await;
                explained(connection, loaded).await
            }

            async fn lock_counts_on(
                &self,
                connection: &mut $connection,
                resources: &BTreeSet<Resource>,
                now: DateTime<Utc>,
            ) -> Result<BTreeMap<Resource, LikeCount>, StoreError> {
                $crate::store::read_models::lock_counts(connection, resources, now).await
            }

            async fn write_states_on<'a>(
                &self,
                connection: &mut $connection,
                states: impl Iterator<Item = (&'a Pair, &'a VersionedState)> + Send,
            ) -> Result<usize, StoreError> {
                $crate::store::read_models::write_states(connection, states).await
            }

            async fn write_counts_on(
                &self,
                connection: &mut $connection,
                counts: &mut BTreeMap<Resource, LikeCount>,
                changes: &BTreeMap<Resource, i64>,
                now: DateTime<Utc>,
            ) -> Result<Vec<Resource>, StoreError> {
                $crate::store::read_models::write_counts(connection, counts, changes, now).await
            }

            async fn states_on(
                &self,
                connection: &mut $connection,
                pairs: &BTreeSet<Pair>,
            ) -> Result<BTreeMap<Pair, VersionedState>, StoreError> {
                $crate::store::read_models::states(connection, pairs).await
            }

            async fn pairs_on(
                connection: &mut $connection,
                statement: &Statement,
                pairs: &BTreeSet<Pair>,
                resource_type: ResourceType,
            ) -> Result<Vec<(Pair, VersionedState)>, StoreError> {
                $crate::store::read_models::load_states(connection, statement, pairs, resource_type)
                    .await
            }
        }

        sql_maintenance!($store, $connection, $begin);

        impl OldStore for $store {
            fn now(&self) -> DateTime<Utc> {
                self.clock.now()
            }
        }
    };
}

pub(in crate::store) use sql_store;
