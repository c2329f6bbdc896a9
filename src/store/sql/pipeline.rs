//! What the pipeline asks of the database: record, sync, fail, claim; and what readers look up.

/// Defines `$store`, the [`Store`](super::Store) over connections of this type in this dialect; `$begin`
/// starts a transaction that will write.
macro_rules! sql_store {
    ($store:ident, $connection:ty, $dialect:expr, $begin:ident, $kind:literal) => {
        /// The store over this database.
        pub(super) struct $store {
            readers: Pool<AsyncDieselConnectionManager<$connection>>,
            writers: Pool<AsyncDieselConnectionManager<$connection>>,
            prober: Pool<AsyncDieselConnectionManager<$connection>>,
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
                    prober: pools.prober,
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

            async fn sync_on(
                &self,
                connection: &mut $connection,
                rows: &[LedgerRow],
                now: DateTime<Utc>,
            ) -> Result<Settled, StoreError> {
                let resources: BTreeSet<Resource> = rows.iter().map(|row| row.resource).collect();
                let mut counts = self.lock_counts_on(connection, &resources, now).await?;
                let completed = self.complete_on(connection, rows, now).await?;

                let pairs: BTreeSet<Pair> = rows.iter().map(LedgerRow::pair).collect();
                let mut states = self.states_on(connection, &pairs).await?;
                let fold = Fold::of(
                    |pair| states.get(pair).copied(),
                    completed
                        .iter()
                        .map(|row| (row.pair(), VersionedState::new(row.version, row.action))),
                );

                let written = fold.changed.iter().map(|pair| (pair, &fold.states[pair]));
                self.write_states_on(connection, written).await?;
                let changed = self
                    .write_counts_on(connection, &mut counts, &fold.count_changes, now)
                    .await?;
                states.extend(fold.states);
                Ok(Settled {
                    states,
                    counts,
                    changed,
                })
            }

            /// Completes those of the rows that this worker still holds. Answers the rows that are
            /// completed now, and so have an effect; not those that another worker has claimed since,
            /// which may end dead.
            async fn complete_on<'a>(
                &self,
                connection: &mut $connection,
                rows: &'a [LedgerRow],
                now: DateTime<Utc>,
            ) -> Result<Vec<&'a LedgerRow>, StoreError> {
                let held: Vec<_> = rows
                    .iter()
                    .map(|row| {
                        (
                            id_text(row.event_id),
                            row.fencing_token,
                            row.user_id,
                            row.resource.resource_type.as_str(),
                            row.resource.id,
                            row.action.as_str(),
                            row.version,
                        )
                    })
                    .collect();
                let params = [Param::rows(&held), Param::time(now)];
                let done = Self::affect(connection, &self.statements.complete, &params).await?;
                let ids: BTreeSet<_> = held.into_iter().map(|row| (row.0,)).collect();
                // Of two rows of one event, which may differ in their versions, only one is in the ledger.
                if done == ids.len() && done == rows.len() {
                    return Ok(rows.iter().collect());
                }
                let ids: Vec<_> = ids.into_iter().collect();
                let found: Vec<EventRow> =
                    Self::load(connection, &self.statements.completed, &[Param::rows(&ids)])
                        .await?;
                // Only what the ledger says has an effect, whatever the message said that brought the row.
                let mut completed = BTreeMap::new();
                for row in &found {
                    let (_, row) = row.ledger_row()?;
                    completed.insert(row.event_id, row);
                }
                let is_completed = |row: &&LedgerRow| {
                    let listed = completed.get(&row.event_id);
                    listed.is_some_and(|listed| listed.is_of_one_content_with(row))
                };
                Ok(rows.iter().filter(is_completed).collect())
            }

            /// The counts of these resources, locked until the transaction ends.
            async fn lock_counts_on(
                &self,
                connection: &mut $connection,
                resources: &BTreeSet<Resource>,
                now: DateTime<Utc>,
            ) -> Result<BTreeMap<Resource, LikeCount>, StoreError> {
                // Counts that are not there yet come first, and only then the locks, both in the order of
                // the resources: two workers that meet on several of them wait in one direction.
                let present = self
                    .counts_on(connection, &self.statements.counts, resources)
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
                self.counts_on(connection, &self.statements.lock_counts, resources)
                    .await
            }

            /// Writes the states of pairs; answers how many.
            async fn write_states_on<'a>(
                &self,
                connection: &mut $connection,
                states: impl Iterator<Item = (&'a Pair, &'a VersionedState)>,
            ) -> Result<usize, StoreError> {
                let mut written: BTreeMap<ResourceType, Vec<_>> = BTreeMap::new();
                for (pair, mark) in states {
                    let rows = written.entry(pair.resource.resource_type).or_default();
                    rows.push((
                        pair.resource.id,
                        pair.user_id,
                        mark.version,
                        mark.weight(),
                        time_text(mark.version.moment()),
                    ));
                }
                for (resource_type, rows) in &written {
                    let upsert = &self.statements.likes(*resource_type).upsert;
                    Self::execute(connection, upsert, &[Param::rows(rows)]).await?;
                }
                Ok(written.values().map(Vec::len).sum())
            }

            /// Changes counts by so much, and gives those that are new their first revision; answers
            /// which have changed.
            async fn write_counts_on(
                &self,
                connection: &mut $connection,
                counts: &mut BTreeMap<Resource, LikeCount>,
                changes: &BTreeMap<Resource, i64>,
                now: DateTime<Utc>,
            ) -> Result<Vec<Resource>, StoreError> {
                let mut changed = Vec::new();
                let mut write = Vec::new();
                for (resource, change) in changes {
                    let count = counts.entry(*resource).or_insert(LikeCount::NEVER);
                    if let Some(after) = count.after(*change) {
                        *count = after;
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
                Ok(changed)
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
            ) -> Result<BTreeMap<Pair, VersionedState>, StoreError> {
                let mut states = BTreeMap::new();
                for resource_type in ResourceType::ALL {
                    let statement = &self.statements.likes(resource_type).states;
                    states
                        .extend(Self::pairs_on(connection, statement, pairs, resource_type).await?);
                }
                Ok(states)
            }

            /// What a statement that takes rows `(resource_id, user_id)` says of the pairs of one type.
            async fn pairs_on(
                connection: &mut $connection,
                statement: &Statement,
                pairs: &BTreeSet<Pair>,
                resource_type: ResourceType,
            ) -> Result<Vec<(Pair, VersionedState)>, StoreError> {
                let wanted: Vec<_> = pairs
                    .iter()
                    .filter(|pair| pair.resource.resource_type == resource_type)
                    .map(|pair| (pair.resource.id, pair.user_id))
                    .collect();
                if wanted.is_empty() {
                    return Ok(Vec::new());
                }
                let rows: Vec<StateRow> =
                    Self::load(connection, statement, &[Param::rows(&wanted)]).await?;
                Ok(rows.iter().map(|row| row.state(resource_type)).collect())
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
                            attempt.verdict.step().as_str(),
                            i32::from(attempt.verdict.is_counted()),
                            attempt.verdict.next_attempt_at().map(time_text),
                            &attempt.error,
                        )
                    })
                    .collect();
                let params = [Param::rows(&rows), Param::time(now)];
                Self::execute(connection, &self.statements.fail_history, &params).await?;
                Self::execute(connection, &self.statements.fail, &params).await
            }

            async fn claim_on(
                &self,
                connection: &mut $connection,
                lease: Lease,
                limit: usize,
            ) -> Result<Claimed, StoreError> {
                let mut claims = Vec::new();
                let mut unreadable = Vec::new();
                // Until its worker could renew it again, a lease that ran out says nothing of the worker.
                let excused_until = self
                    .writers
                    .condition
                    .impaired_at()
                    .map(|impaired| impaired + lease.renew_every());
                let excuses = |row: &EventRow| {
                    let lapsed = row.next_attempt_at();
                    excused_until.is_some_and(|until| lapsed.is_some_and(|lapsed| lapsed <= until))
                };
                // Each priority by itself: in the order of the index, so that no more rows are locked
                // than are taken.
                for priority in Priority::DESCENDING {
                    let params = [
                        Param::time(lease.now),
                        Param::limit(limit - claims.len()),
                        Param::Number(priority.as_number()),
                    ];
                    let due: Vec<EventRow> =
                        Self::load(connection, &self.statements.due, &params).await?;
                    for row in &due {
                        let away = excuses(row);
                        match row.ledger_row() {
                            Ok((status, row)) => claims.push(Claim::of(status, row, away)),
                            Err(error) => unreadable.push((row.id().to_owned(), error.to_string())),
                        }
                    }
                    if claims.len() == limit {
                        break;
                    }
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
                // A row that nobody can work on must not keep the others from being claimed.
                if !unreadable.is_empty() {
                    let params = [Param::rows(&unreadable), Param::time(lease.now)];
                    Self::execute(connection, &self.statements.mark_dead, &params).await?;
                }
                let abandoned: Vec<_> = claims.iter().filter_map(history_columns).collect();
                if !abandoned.is_empty() {
                    let params = [Param::rows(&abandoned), Param::time(lease.now)];
                    Self::execute(connection, &self.statements.history, &params).await?;
                }
                let (rows, dead): (Vec<_>, Vec<_>) = claims
                    .into_iter()
                    .partition(|claim| claim.status == Status::Processing);
                Ok(Claimed {
                    rows: rows.into_iter().map(|claim| claim.row).collect(),
                    dead: dead.into_iter().map(|claim| claim.row).collect(),
                })
            }

            async fn renew_on(
                &self,
                connection: &mut $connection,
                rows: &[LedgerRow],
                lease: Lease,
            ) -> Result<(), StoreError> {
                let held: Vec<_> = rows
                    .iter()
                    .map(|row| (id_text(row.event_id), row.fencing_token))
                    .collect();
                // Rows that an attempt has locked cannot be claimed meanwhile, and must not be waited for.
                let params = [Param::rows(&held)];
                let free: Vec<EventRow> =
                    Self::load(connection, &self.statements.renewable, &params).await?;
                if free.is_empty() {
                    return Ok(());
                }
                let free: Vec<_> = free.iter().map(EventRow::claimed_as).collect();
                let params = [
                    Param::rows(&free),
                    Param::time(lease.now),
                    Param::time(lease.until()),
                ];
                Self::execute(connection, &self.statements.renew, &params).await
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
        sql_maintenance!($store, $connection, $begin);
        sql_lists!($store, $connection);
        sql_idempotency!($store, $connection, $begin);

        impl OldStore for $store {
            fn ping(&self) -> StoreFuture<'_, ()> {
                Box::pin(async move {
                    let pinged = within!(&self.prober, self.timeout, |connection| async {
                        Self::total(connection, &self.statements.ping).await?;
                        // A file has one writer at a time, whom a probe would wait for.
                        if $dialect.in_process() {
                            return Ok(());
                        }
                        self.prober.probe(connection).await
                    })
                    .await;
                    if pinged.is_ok() {
                        self.prober.close();
                    }
                    pinged
                })
            }

            fn now(&self) -> DateTime<Utc> {
                self.clock.now()
            }

            fn clock_skew(&self) -> Option<TimeDelta> {
                self.clock.skew()
            }

            fn measure_clock(&self) -> StoreFuture<'_, ()> {
                let Some(statement) = &self.statements.clock else {
                    return Box::pin(async { Ok(()) });
                };
                within!(&self.prober, self.timeout, |connection| async {
                    let (wall, asked) = (Utc::now(), Instant::now());
                    let micros = Self::total(connection, statement).await?;
                    if let Some(database) = DateTime::from_timestamp_micros(micros) {
                        self.clock.note(database, wall, asked, Instant::now());
                    }
                    Ok(())
                })
            }

            fn sync<'a>(
                &'a self,
                rows: &'a [LedgerRow],
                now: DateTime<Utc>,
            ) -> StoreFuture<'a, Settled> {
                old_transact!(self, $begin, |connection| self
                    .sync_on(connection, rows, now))
            }

            fn fail<'a>(
                &'a self,
                attempts: &'a [FailedAttempt],
                now: DateTime<Utc>,
            ) -> StoreFuture<'a, ()> {
                old_transact!(self, $begin, |connection| self
                    .fail_on(connection, attempts, now))
            }

            fn claim(&self, lease: Lease, limit: usize) -> StoreFuture<'_, Claimed> {
                old_transact!(self, $begin, |connection| self
                    .claim_on(connection, lease, limit))
            }

            fn renew<'a>(&'a self, rows: &'a [LedgerRow], lease: Lease) -> StoreFuture<'a, ()> {
                old_transact!(self, $begin, |connection| self
                    .renew_on(connection, rows, lease))
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
                self.statements.bounded(sample)
            }

            fn kind(&self) -> &'static str {
                $kind
            }
        }
    };
}

pub(in crate::store) use sql_store;
