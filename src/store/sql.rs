//! The store over SQL, written once. Diesel's types differ for each backend, so the code is a macro
//! that is checked for each of them; what they say differently is asked of the dialect.

/// What the macro's code and the files that use it need.
pub(super) mod prelude {
    pub(in crate::store) use std::collections::{BTreeMap, BTreeSet};
    pub(in crate::store) use std::time::Duration;

    pub(in crate::store) use chrono::{DateTime, Utc};
    pub(in crate::store) use deadpool::managed::Pool;
    pub(in crate::store) use diesel::QueryableByName;
    pub(in crate::store) use diesel_async::pooled_connection::{
        AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod,
    };
    pub(in crate::store) use diesel_async::{
        AsyncConnection, AsyncConnectionCore, RunQueryDsl, SimpleAsyncConnection,
    };

    pub(in crate::store) use crate::domain::{
        BehaviorEvent, Claim, Fold, LedgerRow, LikeCount, Mark, Pair, Resource, ResourceType,
        Source, Status, UserId,
    };
    pub(in crate::store) use crate::store::connection::{VERIFY_TIMEOUT, pool, transact, within};
    pub(in crate::store) use crate::store::dialect::Dialect;
    pub(in crate::store) use crate::store::error::StoreError;
    pub(in crate::store) use crate::store::rows::{
        CountRow, EventRow, PairRow, Param, QuarantinedRow, Query, StateRow, TotalRow,
        claim_columns, id_text, resource_rows, time_text, word,
    };
    pub(in crate::store) use crate::store::sql::{sql_server, sql_store};
    pub(in crate::store) use crate::store::statements::{Statement, Statements};
    pub(in crate::store) use crate::store::{
        Check, FailedAttempt, Found, Lease, QuarantinedEvent, Settled, Store, StoreFuture,
        StoreOptions, Verification,
    };
}

/// Defines `$store`, the [`Store`](super::Store) over connections of this type in this dialect; `$begin`
/// starts a transaction that will write.
macro_rules! sql_store {
    ($store:ident, $connection:ty, $dialect:expr, $begin:ident, $kind:literal) => {
        /// The store over this database.
        pub(super) struct $store {
            readers: Pool<AsyncDieselConnectionManager<$connection>>,
            writers: Pool<AsyncDieselConnectionManager<$connection>>,
            statements: Statements,
            timeout: Duration,
        }

        impl $store {
            /// A store over these pools, which may be one and the same.
            fn new(
                readers: Pool<AsyncDieselConnectionManager<$connection>>,
                writers: Pool<AsyncDieselConnectionManager<$connection>>,
                timeout: Duration,
            ) -> Self {
                Self {
                    readers,
                    writers,
                    statements: Statements::new(&$dialect),
                    timeout,
                }
            }

            async fn execute(
                connection: &mut $connection,
                statement: &Statement,
                params: &[Param],
            ) -> Result<(), StoreError> {
                RunQueryDsl::execute(Query { statement, params }, connection).await?;
                Ok(())
            }

            async fn load<T>(
                connection: &mut $connection,
                statement: &Statement,
                params: &[Param],
            ) -> Result<Vec<T>, StoreError>
            where
                T: QueryableByName<<$connection as AsyncConnectionCore>::Backend> + Send + 'static,
            {
                Ok(RunQueryDsl::load(Query { statement, params }, connection).await?)
            }

            async fn total(
                connection: &mut $connection,
                statement: &Statement,
            ) -> Result<i64, StoreError> {
                let rows: Vec<TotalRow> = Self::load(connection, statement, &[]).await?;
                Ok(rows.iter().map(|row| row.total).sum())
            }

            async fn record_on(
                &self,
                connection: &mut $connection,
                events: &[&BehaviorEvent],
                lease: Lease,
            ) -> Result<Vec<LedgerRow>, StoreError> {
                let mut rows: Vec<_> = events
                    .iter()
                    .map(|event| {
                        (
                            id_text(event.event_id),
                            event.user_id,
                            event.resource.resource_type.as_str(),
                            event.resource.id,
                            event.behavior.as_str(),
                            event.version,
                            event.source.name(),
                            time_text(event.occurred_at),
                        )
                    })
                    .collect();
                // In one order everywhere: of two workers that are given the same messages, one waits
                // for the other, and neither for its own tail.
                rows.sort_by(|one, other| one.0.cmp(&other.0));
                let params = [
                    Param::rows(&rows),
                    Param::time(lease.now),
                    Param::time(lease.until()),
                    Param::Number(lease.max_retries.into()),
                ];
                Self::execute(connection, &self.statements.insert_behaviors, &params).await?;
                let born = |event: &&BehaviorEvent| LedgerRow::born(event, lease.max_retries);
                if events.iter().all(|event| event.action().is_none()) {
                    return Ok(Vec::new());
                }
                Self::execute(connection, &self.statements.insert_ledger, &params).await?;
                // An event of our own has a fresh id. One from elsewhere may have come before, with
                // other content: then the first one stands.
                let foreign: Vec<_> = events
                    .iter()
                    .filter(|event| event.source != Source::Api && event.action().is_some())
                    .map(|event| (id_text(event.event_id),))
                    .collect();
                let mut ledger: Vec<_> = events
                    .iter()
                    .filter(|event| event.source == Source::Api)
                    .filter_map(born)
                    .collect();
                if !foreign.is_empty() {
                    let params = [Param::rows(&foreign)];
                    let rows: Vec<EventRow> =
                        Self::load(connection, &self.statements.unclaimed, &params).await?;
                    for row in rows {
                        ledger.push(row.ledger_row()?.1);
                    }
                }
                Ok(ledger)
            }

            async fn sync_on(
                &self,
                connection: &mut $connection,
                rows: &[LedgerRow],
                now: DateTime<Utc>,
            ) -> Result<Settled, StoreError> {
                let resources: BTreeSet<Resource> = rows.iter().map(|row| row.resource).collect();
                // Counts that are not there yet come first, and only then the locks, both in the order of
                // the resources: two workers that meet on several of them wait in one direction.
                let present = self
                    .counts_on(connection, &self.statements.counts, &resources)
                    .await?;
                let missing: BTreeSet<Resource> = resources
                    .iter()
                    .filter(|resource| !present.contains_key(resource))
                    .copied()
                    .collect();
                if !missing.is_empty() {
                    let params = [resource_rows(&missing), Param::time(now)];
                    Self::execute(connection, &self.statements.insert_counts, &params).await?;
                }
                // The lock on a resource's count is what puts the workers that change it in a row, so
                // that each one's fold starts from what the one before has committed.
                let mut counts = self
                    .counts_on(connection, &self.statements.lock_counts, &resources)
                    .await?;

                let events = || {
                    rows.iter().map(|row| {
                        let pair = Pair {
                            resource: row.resource,
                            user_id: row.user_id,
                        };
                        (pair, Mark::new(row.version, row.action))
                    })
                };
                let pairs: BTreeSet<Pair> = events().map(|(pair, _)| pair).collect();
                let stored = self.states_on(connection, &pairs).await?;
                let fold = Fold::of(|pair| stored.get(pair).copied(), events());

                for resource_type in ResourceType::ALL {
                    let changed: Vec<_> = fold
                        .changed
                        .iter()
                        .filter(|pair| pair.resource.resource_type == resource_type)
                        .map(|pair| {
                            let mark = fold.states[pair];
                            (
                                pair.resource.id,
                                pair.user_id,
                                mark.version,
                                mark.weight(),
                                time_text(mark.version.moment()),
                            )
                        })
                        .collect();
                    if !changed.is_empty() {
                        let upsert = &self.statements.likes(resource_type).upsert;
                        Self::execute(connection, upsert, &[Param::rows(&changed)]).await?;
                    }
                }

                let mut changed = Vec::new();
                let mut write = Vec::new();
                for (resource, change) in &fold.count_changes {
                    let count = counts.entry(*resource).or_insert(LikeCount::NEVER);
                    if *change != 0 || count.revision == 0 {
                        count.like_count += change;
                        count.revision += 1;
                        write.push((
                            resource.resource_type.as_str(),
                            resource.id,
                            count.like_count,
                            count.revision,
                        ));
                    }
                    if *change != 0 {
                        changed.push(*resource);
                    }
                }
                if !write.is_empty() {
                    let params = [Param::rows(&write), Param::time(now)];
                    Self::execute(connection, &self.statements.write_counts, &params).await?;
                }

                let done: Vec<_> = rows
                    .iter()
                    .map(|row| (id_text(row.event_id), row.fencing_token))
                    .collect();
                let params = [Param::rows(&done), Param::time(now)];
                Self::execute(connection, &self.statements.complete, &params).await?;
                Ok(Settled {
                    states: fold.states,
                    counts,
                    changed,
                })
            }

            async fn counts_on(
                &self,
                connection: &mut $connection,
                statement: &Statement,
                resources: &BTreeSet<Resource>,
            ) -> Result<BTreeMap<Resource, LikeCount>, StoreError> {
                let rows: Vec<CountRow> =
                    Self::load(connection, statement, &[resource_rows(resources)]).await?;
                rows.iter().map(CountRow::count).collect()
            }

            async fn states_on(
                &self,
                connection: &mut $connection,
                pairs: &BTreeSet<Pair>,
            ) -> Result<BTreeMap<Pair, Mark>, StoreError> {
                let mut states = BTreeMap::new();
                for resource_type in ResourceType::ALL {
                    let wanted: Vec<_> = pairs
                        .iter()
                        .filter(|pair| pair.resource.resource_type == resource_type)
                        .map(|pair| (pair.resource.id, pair.user_id))
                        .collect();
                    if !wanted.is_empty() {
                        let statement = &self.statements.likes(resource_type).states;
                        let rows: Vec<StateRow> =
                            Self::load(connection, statement, &[Param::rows(&wanted)]).await?;
                        states.extend(rows.iter().map(|row| row.state(resource_type)));
                    }
                }
                Ok(states)
            }

            async fn fail_on(
                &self,
                connection: &mut $connection,
                attempts: &[FailedAttempt],
                now: DateTime<Utc>,
            ) -> Result<(), StoreError> {
                let rows: Vec<_> = attempts
                    .iter()
                    .map(|attempt| {
                        (
                            id_text(attempt.row.event_id),
                            attempt.row.fencing_token,
                            attempt.verdict.status().as_str(),
                            attempt.verdict.next_attempt_at().map(time_text),
                            &attempt.error,
                        )
                    })
                    .collect();
                let params = [Param::rows(&rows), Param::time(now)];
                Self::execute(connection, &self.statements.fail, &params).await
            }

            async fn claim_on(
                &self,
                connection: &mut $connection,
                lease: Lease,
                limit: usize,
            ) -> Result<Vec<LedgerRow>, StoreError> {
                let params = [Param::time(lease.now), Param::limit(limit)];
                let due: Vec<EventRow> =
                    Self::load(connection, &self.statements.due, &params).await?;
                let mut claims = Vec::with_capacity(due.len());
                for row in &due {
                    let (status, row) = row.ledger_row()?;
                    claims.push(Claim::of(status, row));
                }
                if !claims.is_empty() {
                    let until = time_text(lease.until());
                    let rows: Vec<_> = claims
                        .iter()
                        .map(|claim| claim_columns(claim, &until))
                        .collect();
                    let params = [Param::rows(&rows), Param::time(lease.now)];
                    Self::execute(connection, &self.statements.claim, &params).await?;
                }
                Ok(claims
                    .into_iter()
                    .filter(|claim| claim.status == Status::Processing)
                    .map(|claim| claim.row)
                    .collect())
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

            async fn verify_on(
                &self,
                connection: &mut $connection,
                examples: usize,
            ) -> Result<Verification, StoreError> {
                let s = &self.statements;
                let most = [Param::limit(examples)];
                let mut checks = vec![
                    Check::new(
                        "each like event has one ledger row",
                        Self::total(connection, &s.like_behaviors).await?,
                        vec![
                            Self::load(connection, &s.verify_unlisted, &most).await?,
                            Self::load(connection, &s.verify_unfounded, &most).await?,
                        ],
                    ),
                    Check::new(
                        "each ledger row is completed or dead",
                        Self::total(connection, &s.ledger_rows).await?,
                        vec![Self::load(connection, &s.verify_open, &most).await?],
                    ),
                ];
                let mut liked = BTreeMap::new();
                for resource_type in ResourceType::ALL {
                    let likes = s.likes(resource_type);
                    liked.insert(resource_type, Self::total(connection, &likes.liked).await?);
                    checks.push(Check::new(
                        format!("{resource_type}_likes is the fold of user_behaviors"),
                        Self::total(connection, &likes.rows).await?,
                        vec![
                            Self::load(connection, &likes.verify_fold, &most).await?,
                            Self::load(connection, &likes.verify_strays, &most).await?,
                        ],
                    ));
                    checks.push(Check::new(
                        format!("each {resource_type}'s like count is its number of liked rows"),
                        Self::total(connection, &likes.counted).await?,
                        vec![
                            Self::load(connection, &likes.verify_counts, &most).await?,
                            Self::load(connection, &likes.verify_uncounted, &most).await?,
                        ],
                    ));
                }
                Ok(Verification { checks, liked })
            }
        }

        impl Store for $store {
            fn ping(&self) -> StoreFuture<'_, ()> {
                within!(&self.readers, self.timeout, |connection| async {
                    Self::total(connection, &self.statements.ping)
                        .await
                        .map(drop)
                })
            }

            fn record<'a>(
                &'a self,
                events: &'a [&'a BehaviorEvent],
                lease: Lease,
            ) -> StoreFuture<'a, Vec<LedgerRow>> {
                transact!(self, $begin, |connection| self
                    .record_on(connection, events, lease))
            }

            fn sync<'a>(
                &'a self,
                rows: &'a [LedgerRow],
                now: DateTime<Utc>,
            ) -> StoreFuture<'a, Settled> {
                transact!(self, $begin, |connection| self
                    .sync_on(connection, rows, now))
            }

            fn fail<'a>(
                &'a self,
                attempts: &'a [FailedAttempt],
                now: DateTime<Utc>,
            ) -> StoreFuture<'a, ()> {
                transact!(self, $begin, |connection| self
                    .fail_on(connection, attempts, now))
            }

            fn claim(&self, lease: Lease, limit: usize) -> StoreFuture<'_, Vec<LedgerRow>> {
                transact!(self, $begin, |connection| self
                    .claim_on(connection, lease, limit))
            }

            fn find<'a>(&'a self, pairs: &'a BTreeSet<Pair>) -> StoreFuture<'a, Found> {
                within!(&self.readers, self.timeout, |connection| async {
                    // The counts first: a commit in between then shows as a state newer than the
                    // count, which its settlement puts right, and never as a count without a state.
                    let resources = pairs.iter().map(|pair| pair.resource).collect();
                    let counts = self
                        .counts_on(connection, &self.statements.counts, &resources)
                        .await?;
                    let states = self.states_on(connection, pairs).await?;
                    Ok(Found { states, counts })
                })
            }

            fn recent_pairs(&self, limit: usize) -> StoreFuture<'_, BTreeSet<Pair>> {
                within!(&self.readers, self.timeout, |connection| async {
                    let statement = &self.statements.recent_pairs;
                    let rows: Vec<PairRow> =
                        Self::load(connection, statement, &[Param::limit(limit)]).await?;
                    rows.iter().map(PairRow::pair).collect()
                })
            }

            fn likes_after(
                &self,
                resource_type: ResourceType,
                (user_id, resource_id): (UserId, i64),
                limit: usize,
            ) -> StoreFuture<'_, Vec<(Pair, Mark)>> {
                within!(&self.readers, self.timeout, |connection| async {
                    let params = [
                        Param::Number(user_id),
                        Param::Number(resource_id),
                        Param::limit(limit),
                    ];
                    let statement = &self.statements.likes(resource_type).after;
                    let rows: Vec<StateRow> = Self::load(connection, statement, &params).await?;
                    Ok(rows.iter().map(|row| row.state(resource_type)).collect())
                })
            }

            fn quarantine<'a>(&'a self, events: &'a [QuarantinedEvent]) -> StoreFuture<'a, ()> {
                transact!(self, $begin, |connection| self
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

            fn verify(&self, examples: usize) -> StoreFuture<'_, Verification> {
                within!(&self.readers, VERIFY_TIMEOUT, |connection| async {
                    if let Some(statement) = $dialect.before_snapshot() {
                        connection.batch_execute(statement).await?;
                    }
                    connection
                        .transaction(async |connection| {
                            if let Some(statement) = $dialect.in_snapshot() {
                                connection.batch_execute(statement).await?;
                            }
                            self.verify_on(connection, examples).await
                        })
                        .await
                })
            }

            fn kind(&self) -> &'static str {
                $kind
            }
        }
    };
}

pub(super) use sql_store;

/// Defines `connect` and `migrate` for a database that runs as a server, in a file that says how to
/// `establish` a connection, which `MIGRATIONS` there are and what holds the `MIGRATION_LOCK`.
macro_rules! sql_server {
    ($store:ident) => {
        /// Connects to the database, whose tables must be there.
        pub(super) async fn connect(options: &StoreOptions) -> Result<$store, StoreError> {
            let mut config = ManagerConfig::default();
            // A connection that the server has dropped meanwhile is noticed before it is used.
            config.recycling_method = RecyclingMethod::Verified;
            config.custom_setup = Box::new(|url| Box::pin(establish(url)));
            let manager = AsyncDieselConnectionManager::new_with_config(&options.url, config);
            let connections = pool(manager, options.max_connections, options.timeout)?;
            let store = $store::new(connections.clone(), connections, options.timeout);
            store.ping().await?;
            Ok(store)
        }

        /// Brings the database's tables up to date; answers the names of the migrations that this ran.
        pub(super) async fn migrate(options: &StoreOptions) -> Result<Vec<String>, StoreError> {
            let connecting = tokio::time::timeout(options.timeout, establish(&options.url));
            let mut connection = connecting
                .await
                .map_err(|_| StoreError::TimedOut(options.timeout))?
                .map_err(|error| StoreError::Unavailable(error.to_string()))?;
            connection.batch_execute(MIGRATION_LOCK).await?;
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

pub(super) use sql_server;
