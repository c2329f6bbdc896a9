//! What the pipeline asks of the database: record, sync, fail, claim; and what readers look up.

/// Defines `$store`, the [`Store`](super::Store) over connections of this type in this dialect; `$begin`
/// starts a transaction that will write.
macro_rules! sql_store {
    ($store:ident, $connection:ty, $dialect:expr, $begin:ident) => {
        /// The store over this database.
        pub(super) struct $store {
            readers: Pool<AsyncDieselConnectionManager<$connection>>,
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
                    readers: pools.readers,
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

            async fn total(
                connection: &mut $connection,
                statement: &Statement,
            ) -> Result<i64, StoreError> {
                let rows: Vec<TotalRow> = Self::load(connection, statement, &[]).await?;
                Ok(rows.iter().map(|row| row.total).sum())
            }

            async fn states_on(
                &self,
                connection: &mut $connection,
                pairs: &BTreeSet<Pair>,
            ) -> Result<BTreeMap<Pair, VersionedState>, StoreError> {
                $crate::store::read_models::states(connection, pairs).await
            }

            async fn quarantine_on(
                &self,
                connection: &mut $connection,
                events: &[QuarantinedEvent],
            ) -> Result<(), StoreError> {
                for event in events {
                    let row = (
                        id_text(event.id),
                        event.stream_sequence,
                        &event.subject,
                        &event.message_id,
                        &event.reason,
                        hex::encode(&event.payload),
                    );
                    let params = [Param::rows(&[row]), Param::time(event.created_at)];
                    Self::execute(connection, &self.statements.quarantine, &params).await?;
                }
                Ok(())
            }
        }

        sql_operations!($store, $connection, $begin);
        sql_lists!($store, $connection);
        sql_idempotency!($store, $connection, $begin);

        impl OldStore for $store {
            fn now(&self) -> DateTime<Utc> {
                self.clock.now()
            }

            fn quarantine<'a>(&'a self, events: &'a [QuarantinedEvent]) -> StoreFuture<'a, ()> {
                old_transact!(self, $begin, |connection| self
                    .quarantine_on(connection, events))
            }

            fn quarantined(&self, limit: usize) -> StoreFuture<'_, Vec<QuarantinedEvent>> {
                within!(&self.readers, self.timeout, |connection| async {
                    let statement = &self.statements.quarantined;
                    let rows: Vec<QuarantinedRow> =
                        Self::load(connection, statement, &[Param::limit(limit)]).await?;
                    rows.into_iter().map(QuarantinedRow::event).collect()
                })
            }

            fn open_rows(&self) -> StoreFuture<'_, i64> {
                within!(&self.readers, self.timeout, |connection| async {
                    Self::total(connection, &self.statements.open_rows).await
                })
            }

            fn ledger_summary(&self) -> StoreFuture<'_, BTreeMap<Status, i64>> {
                within!(&self.readers, self.timeout, |connection| async {
                    let rows: Vec<TotalRow> =
                        Self::load(connection, &self.statements.summary, &[]).await?;
                    rows.iter()
                        .map(|row| Ok((word(&row.label, "sync_events")?, row.total)))
                        .collect()
                })
            }

            fn bounded_statements(&self, sample: &Sample) -> Vec<(String, String)> {
                self.statements.bounded(&$dialect, sample)
            }
        }
    };
}

pub(in crate::store) use sql_store;
