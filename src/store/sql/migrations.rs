//! [`Target`](crate::store::migrate::Target) over SQL: the lease, and one migration at a time.

/// Defines `Migrations`, the migrations of a database, in a file that has `MIGRATIONS`, the `LEASE_TABLE` and
/// a function that opens a connection for migrating. `$fenced` says whether a migration is one transaction, so
/// that it can be taken back if the lease was lost.
macro_rules! sql_migrations {
    ($connection:ty, $dialect:expr, $open:path, $fenced:literal) => {
        /// The migrations of this database.
        pub(super) struct Migrations {
            url: String,
            timeout: Duration,
            statements: LeaseStatements,
        }

        impl Migrations {
            pub(super) fn of(url: &str, timeout: Duration) -> Self {
                Self {
                    url: url.to_owned(),
                    timeout,
                    statements: LeaseStatements::new(Schema::of(&$dialect, "", &crate::domain::ResourceTypes::default(), crate::domain::IdKinds::default())),
                }
            }

            async fn connect(&self) -> Result<$connection, StoreError> {
                tokio::time::timeout(self.timeout, $open(&self.url))
                    .await
                    .map_err(|_| StoreError::TimedOut(self.timeout))?
            }

            /// Runs work on a connection of its own, within the time of one call.
            async fn briefly<T>(
                &self,
                work: impl AsyncFnOnce(&mut $connection) -> Result<T, StoreError>,
            ) -> Result<T, StoreError> {
                let work = async {
                    let mut connection = self.connect().await?;
                    work(&mut connection).await
                };
                tokio::time::timeout(2 * self.timeout, work)
                    .await
                    .map_err(|_| StoreError::TimedOut(2 * self.timeout))?
            }
        }

        async fn execute_lease(
            connection: &mut $connection,
            statement: &Statement,
            params: &[Param],
        ) -> Result<(), StoreError> {
            let done = RunQueryDsl::execute(Query { statement, params }, connection).await;
            explained(connection, done).await.map(drop)
        }

        async fn read_lease(
            connection: &mut $connection,
            statement: &Statement,
        ) -> Result<Option<MigrationLease>, StoreError> {
            let query = Query {
                statement,
                params: &[],
            };
            let rows = RunQueryDsl::load(query, connection).await;
            let rows: Vec<LeaseRow> = explained(connection, rows).await?;
            Ok(rows.into_iter().next().map(LeaseRow::lease))
        }

        /// Prolongs the lease, and answers whether this process still holds it.
        async fn renew_lease(
            connection: &mut $connection,
            statements: &LeaseStatements,
            lease: &MigrationLease,
        ) -> Result<bool, StoreError> {
            let params = lease_params(lease);
            execute_lease(connection, &statements.renew, &params).await?;
            let current = read_lease(connection, &statements.read).await?;
            Ok(current.is_some_and(|current| {
                current.holder == lease.holder && current.epoch == lease.epoch
            }))
        }

        impl Target for Migrations {
            fn pending(&self) -> StoreFuture<'_, Vec<String>> {
                Box::pin(async move {
                    self.briefly(async |connection| {
                        let query = Query {
                            statement: &self.statements.applied,
                            params: &[],
                        };
                        let applied = RunQueryDsl::load(query, connection).await;
                        let applied: Result<Vec<IdRow>, StoreError> =
                            explained(connection, applied).await;
                        let applied = match applied {
                            Ok(rows) => rows.into_iter().map(|row| row.id).collect(),
                            Err(error @ StoreError::Busy(_)) => return Err(error),
                            Err(error) if !error.was_answered() => return Err(error),
                            // The table is not there: nothing has been migrated.
                            Err(_) => BTreeSet::new(),
                        };
                        let own: Vec<Box<dyn Migration<_>>> = MigrationSource::<
                            <$connection as AsyncConnectionCore>::Backend,
                        >::migrations(
                            &MIGRATIONS
                        )
                        .map_err(|error| StoreError::Migration(error.to_string()))?;
                        let mut versions: Vec<String> = own
                            .iter()
                            .map(|migration| migration.name().version().to_string())
                            .collect();
                        versions.sort();
                        versions.retain(|version| !applied.contains(version));
                        Ok(versions)
                    })
                    .await
                })
            }

            fn prepare(&self) -> StoreFuture<'_, ()> {
                Box::pin(async move {
                    self.briefly(async |connection| {
                        let statements = &self.statements;
                        if read_lease(connection, &statements.read)
                            .await
                            .ok()
                            .flatten()
                            .is_some()
                        {
                            return Ok(());
                        }
                        let made = connection.batch_execute(LEASE_TABLE).await;
                        let made = explained(connection, made).await;
                        // Of two processes that make it at once, one may fail: what counts is that it is there.
                        if read_lease(connection, &statements.read).await.is_err() {
                            made?;
                        }
                        execute_lease(connection, &statements.seed, &[]).await
                    })
                    .await
                })
            }

            fn acquire<'a>(
                &'a self,
                holder: &'a str,
            ) -> StoreFuture<'a, Result<MigrationLease, String>> {
                Box::pin(async move {
                    self.briefly(async |connection| {
                        let params = [Param::Text(holder.to_owned())];
                        execute_lease(connection, &self.statements.acquire, &params).await?;
                        let current = read_lease(connection, &self.statements.read).await?;
                        Ok(match current {
                            Some(lease) if lease.holder == holder => Ok(lease),
                            Some(lease) if lease.holder.is_empty() => {
                                Err("a process that has just ended".to_owned())
                            }
                            Some(lease) => Err(lease.holder),
                            None => Err("a process that is still preparing it".to_owned()),
                        })
                    })
                    .await
                })
            }

            fn renew<'a>(&'a self, lease: &'a MigrationLease) -> StoreFuture<'a, bool> {
                Box::pin(async move {
                    self.briefly(async |connection| {
                        renew_lease(connection, &self.statements, lease).await
                    })
                    .await
                })
            }

            fn release<'a>(&'a self, lease: &'a MigrationLease) -> StoreFuture<'a, ()> {
                Box::pin(async move {
                    self.briefly(async |connection| {
                        execute_lease(connection, &self.statements.release, &lease_params(lease))
                            .await
                    })
                    .await
                })
            }

            fn run_next<'a>(
                &'a self,
                lease: &'a MigrationLease,
            ) -> StoreFuture<'a, Option<String>> {
                Box::pin(async move {
                    let mut connection = self.connect().await?;
                    if !renew_lease(&mut connection, &self.statements, lease).await? {
                        return Err(lost());
                    }
                    let lease = lease.clone();
                    // The harness blocks, which this runtime's only thread must not.
                    let migrate = tokio::task::spawn_blocking(move || {
                        let mut connection = Blocking::from(connection);
                        let pending = connection
                            .pending_migrations(MIGRATIONS)
                            .map_err(|error| migration_error("list", &*error))?;
                        let Some(migration) = pending.into_iter().next() else {
                            return Ok(None);
                        };
                        let name = migration.name().to_string();
                        let ran = if $fenced {
                            let statements = LeaseStatements::new(Schema::of(&$dialect, "", &crate::domain::ResourceTypes::default(), crate::domain::IdKinds::default()));
                            Connection::transaction(&mut connection, |connection| {
                                connection.run_migration(&*migration)?;
                                // The last thing before the commit: who lost the lease changes nothing.
                                let held = tokio::runtime::Handle::current()
                                    .block_on(renew_lease(&mut *connection, &statements, &lease))?;
                                if held { Ok(()) } else { Err(LeaseLost.into()) }
                            })
                        } else {
                            connection.run_migration(&*migration).map(drop)
                        };
                        ran.map_err(|error| migration_error(&name, &*error))?;
                        Ok(Some(name))
                    });
                    migrate
                        .await
                        .map_err(|error| StoreError::Migration(error.to_string()))?
                })
            }
        }
    };
}

pub(in crate::store) use sql_migrations;
