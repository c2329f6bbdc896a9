//! [`Operations`](crate::store::Operations) over SQL.

/// Implements [`Operations`](crate::store::Operations) for a store that `sql_store!` has defined.
macro_rules! sql_operations {
    ($store:ident, $connection:ty, $begin:ident) => {
        impl $store {
            async fn first<T, R>(
                connection: &mut $connection,
                statement: &Statement,
                params: &[Param],
                read: impl FnOnce(T) -> R,
            ) -> Result<Option<R>, StoreError>
            where
                T: QueryableByName<<$connection as AsyncConnectionCore>::Backend> + Send + 'static,
            {
                let rows: Vec<T> = Self::load(connection, statement, params).await?;
                Ok(rows.into_iter().next().map(read))
            }

            async fn totals<T: std::str::FromStr<Err: ToString> + Ord>(
                connection: &mut $connection,
                (statement, params): (&Statement, &[Param]),
            ) -> Result<BTreeMap<T, i64>, StoreError> {
                let rows: Vec<TotalRow> = Self::load(connection, statement, params).await?;
                rows.iter()
                    .map(|row| Ok((word(&row.label, "sync_events")?, row.total)))
                    .collect()
            }

            async fn event_record_on(
                &self,
                connection: &mut $connection,
                event_id: &str,
            ) -> Result<EventRecord, StoreError> {
                let s = &self.statements.operations;
                let id = [Param::Text(event_id.to_owned())];
                let behavior: Option<BehaviorEntry> =
                    Self::first(connection, &s.behavior, &id, |row: BehaviorEntryRow| {
                        row.into()
                    })
                    .await?;
                let ledger: Option<LedgerEntry> =
                    Self::first(connection, &s.ledger_entry, &id, |row: LedgerEntryRow| {
                        row.into()
                    })
                    .await?;
                let params = [Param::Text(event_id.to_owned()), Param::limit(MOST_HISTORY)];
                let history: Vec<HistoryRow> =
                    Self::load(connection, &s.event_history, &params).await?;
                let resource = match (&behavior, &ledger) {
                    (Some(one), _) => Some((&one.resource_type, one.resource_id, one.user_id)),
                    (None, Some(one)) => Some((&one.resource_type, one.resource_id, one.user_id)),
                    (None, None) => None,
                };
                let mut read_model = None;
                if let Some((resource_type, id, user_id)) = resource
                    && let Ok(resource_type) = resource_type.parse()
                {
                    let resource = Resource { resource_type, id };
                    let pair = Pair { resource, user_id };
                    let states = self.states_on(connection, &BTreeSet::from([pair])).await?;
                    read_model = states.get(&pair).copied();
                }
                Ok(EventRecord {
                    behavior,
                    ledger,
                    history: history.into_iter().map(HistoryEntry::from).collect(),
                    read_model,
                })
            }

            async fn intervene_on(
                &self,
                connection: &mut $connection,
                event_ids: &[String],
                intervention: &Intervention,
            ) -> Result<Vec<LedgerRow>, StoreError> {
                let s = &self.statements.operations;
                let ids: Vec<_> = event_ids.iter().map(|id| (id,)).collect();
                let now = || Param::time(intervention.now);
                let eligible: Vec<EventRow> = match &intervention.action {
                    InterventionKind::Retry => {
                        Self::load(connection, &s.retriable, &[Param::rows(&ids)]).await?
                    }
                    InterventionKind::Discard(_) => {
                        let params = [Param::rows(&ids), now()];
                        Self::load(connection, &s.discardable, &params).await?
                    }
                };
                // What cannot be read is closed by whoever claims it.
                let rows: Vec<LedgerRow> = eligible
                    .iter()
                    .filter_map(|row| row.ledger_row().ok().map(|(_, row)| row))
                    .collect();
                if rows.is_empty() {
                    return Ok(rows);
                }
                let history: Vec<_> = rows
                    .iter()
                    .map(|row| intervention_columns(row, intervention))
                    .collect();
                let params = [Param::rows(&history), now()];
                Self::execute(connection, &self.statements.history, &params).await?;
                match &intervention.action {
                    InterventionKind::Retry => {
                        let ids: Vec<_> = rows.iter().map(|row| (id_text(row.event_id),)).collect();
                        let priority = Param::Number(intervention.priority.as_number());
                        let params = [Param::rows(&ids), now(), priority];
                        Self::execute(connection, &s.retry, &params).await?;
                    }
                    InterventionKind::Discard(reason) => {
                        let error = format!("discarded by {}: {reason}", intervention.operator);
                        let ids: Vec<_> = rows
                            .iter()
                            .map(|row| (id_text(row.event_id), &error))
                            .collect();
                        let params = [Param::rows(&ids), now()];
                        Self::execute(connection, &s.discard, &params).await?;
                    }
                }
                Ok(rows)
            }

            async fn create_job_on(
                &self,
                connection: &mut $connection,
                job: &NewJob,
                filter: Option<&LedgerFilter>,
            ) -> Result<Option<Job>, StoreError> {
                let s = &self.statements.operations;
                let id = id_text(uuid::Uuid::now_v7());
                let row = (
                    &id,
                    job.kind.as_str(),
                    job.spec.to_string(),
                    &job.requested_by,
                    &job.slot,
                );
                let params = [Param::rows(&[row]), Param::time(job.now)];
                Self::execute(connection, &s.insert_job, &params).await?;
                let key = [Param::Text(id.clone())];
                let made = Self::first(connection, &s.job, &key, JobRow::job).await?;
                let (Some(made), Some(filter)) = (made.transpose()?, filter) else {
                    return Self::first(connection, &s.job, &key, JobRow::job)
                        .await?
                        .transpose();
                };
                let (statement, params) = s.snapshot(&made.id, job.kind, filter);
                Self::execute(connection, &statement, &params).await?;
                let rows: Vec<TotalRow> = Self::load(connection, &s.snapshot_size, &key).await?;
                let total: i64 = rows.iter().map(|row| row.total).sum();
                if total > JOB_LIMIT as i64 {
                    return Err(StoreError::Refused(format!(
                        "the filter matches more than {JOB_LIMIT} rows, the most that one job takes"
                    )));
                }
                let params = [Param::Text(id), Param::Number(total)];
                Self::execute(connection, &s.set_total, &params).await?;
                Ok(Some(Job {
                    total: Some(total),
                    ..made
                }))
            }

            async fn claim_job_on(
                &self,
                connection: &mut $connection,
                id: Option<&str>,
                now: DateTime<Utc>,
                until: DateTime<Utc>,
            ) -> Result<Option<Job>, StoreError> {
                let s = &self.statements.operations;
                let free = match id {
                    None => {
                        let params = [Param::time(now)];
                        Self::first(connection, &s.free_job, &params, JobRow::job).await?
                    }
                    Some(id) => {
                        let params = [Param::time(now), Param::Text(id.to_owned())];
                        Self::first(connection, &s.free_job_of_id, &params, JobRow::job).await?
                    }
                };
                let Some(mut job) = free.transpose()? else {
                    return Ok(None);
                };
                let params = [
                    Param::Text(job.id.clone()),
                    Param::time(now),
                    Param::time(until),
                ];
                Self::execute(connection, &s.claim_job, &params).await?;
                job.state = JobState::Running;
                job.fencing_token += 1;
                Ok(Some(job))
            }

            /// The job under its lock, if it still is this worker's: with its position.
            async fn held_job_on(
                &self,
                connection: &mut $connection,
                job: &Job,
            ) -> Result<Option<String>, StoreError> {
                let key = [Param::Text(job.id.clone())];
                let statement = &self.statements.operations.lock_job;
                let row: Option<JobRow> =
                    Self::first(connection, statement, &key, |row| row).await?;
                let Some(mut row) = row else {
                    return Ok(None);
                };
                let position = row.position.take().unwrap_or_default();
                let now = row.job()?;
                let held = now.state == JobState::Running && now.fencing_token == job.fencing_token;
                Ok(held.then_some(position))
            }

            async fn step_job_on(
                &self,
                connection: &mut $connection,
                job: &Job,
                intervention: &Intervention,
                limit: usize,
                until: DateTime<Utc>,
            ) -> Result<Option<JobStep>, StoreError> {
                let s = &self.statements.operations;
                let Some(position) = self.held_job_on(connection, job).await? else {
                    return Ok(None);
                };
                let id = || Param::Text(job.id.clone());
                let params = [id(), Param::Text(position.clone()), Param::limit(limit)];
                let next: Vec<IdRow> = Self::load(connection, &s.next_events, &params).await?;
                let ids: Vec<String> = next.into_iter().map(|row| row.bound).collect();
                let changed = self.intervene_on(connection, &ids, intervention).await?;
                let touched: BTreeSet<String> =
                    changed.iter().map(|row| id_text(row.event_id)).collect();
                let outcomes: Vec<_> = ids
                    .iter()
                    .map(|id| match touched.contains(id) {
                        true => (&job.id, id, "changed"),
                        false => (&job.id, id, "skipped"),
                    })
                    .collect();
                if !outcomes.is_empty() {
                    let params = [Param::rows(&outcomes)];
                    Self::execute(connection, &s.set_outcomes, &params).await?;
                }
                let finished = ids.len() < limit;
                let state = match finished {
                    true => JobState::Completed,
                    false => JobState::Running,
                };
                let params = [
                    id(),
                    Param::time(intervention.now),
                    Param::limit(ids.len()),
                    Param::limit(changed.len()),
                    Param::Text(ids.last().cloned().unwrap_or(position)),
                    Param::Text(state.as_str().to_owned()),
                    Param::time(until),
                ];
                Self::execute(connection, &s.move_job, &params).await?;
                Ok(Some(JobStep {
                    passed: ids.len(),
                    changed,
                    finished,
                }))
            }

            async fn report_job_on(
                &self,
                connection: &mut $connection,
                job: &Job,
                report: &JobReport,
                now: DateTime<Utc>,
            ) -> Result<bool, StoreError> {
                if self.held_job_on(connection, job).await?.is_none() {
                    return Ok(false);
                }
                let text = |text: Option<String>| Param::Text(text.unwrap_or_default());
                let state = report.state.unwrap_or(JobState::Running);
                let params = [
                    Param::Text(job.id.clone()),
                    Param::time(now),
                    Param::Number(report.total.unwrap_or(-1)),
                    Param::Number(report.done),
                    Param::Number(report.changed),
                    Param::Text(state.as_str().to_owned()),
                    text(report.result.as_ref().map(ToString::to_string)),
                    text(report.error_message.clone()),
                    Param::time(report.lease_until.unwrap_or(now)),
                    text(report.position.clone()),
                ];
                let statement = &self.statements.operations.report_job;
                Self::execute(connection, statement, &params).await?;
                Ok(true)
            }

            async fn cancel_job_on(
                &self,
                connection: &mut $connection,
                id: &str,
                now: DateTime<Utc>,
            ) -> Result<Option<Job>, StoreError> {
                let s = &self.statements.operations;
                let key = [Param::Text(id.to_owned())];
                let job = Self::first(connection, &s.lock_job, &key, JobRow::job).await?;
                let Some(mut job) = job.transpose()? else {
                    return Ok(None);
                };
                if job.state.is_open() {
                    let params = [Param::Text(id.to_owned()), Param::time(now)];
                    Self::execute(connection, &s.cancel_job, &params).await?;
                    job.state = JobState::Cancelled;
                    job.finished_at = Some(now);
                }
                Ok(Some(job))
            }

            async fn prune_jobs_on(
                &self,
                connection: &mut $connection,
                before: DateTime<Utc>,
                limit: usize,
            ) -> Result<usize, StoreError> {
                let s = &self.statements.operations;
                let params = [Param::time(before), Param::limit(limit)];
                let jobs: Vec<IdRow> = Self::load(connection, &s.prunable_jobs, &params).await?;
                let ids: Vec<_> = jobs.iter().map(|row| (&row.bound,)).collect();
                if !ids.is_empty() {
                    let ids = [Param::rows(&ids)];
                    Self::execute(connection, &s.delete_job_events, &ids).await?;
                    Self::execute(connection, &s.delete_jobs, &ids).await?;
                }
                Ok(ids.len())
            }

            async fn resolve_on(
                &self,
                connection: &mut $connection,
                (id, resolution, operator): (&str, &str, &str),
                now: DateTime<Utc>,
            ) -> Result<bool, StoreError> {
                let s = &self.statements.operations;
                let key = [Param::Text(id.to_owned())];
                let entry = Self::first(
                    connection,
                    &s.lock_quarantined,
                    &key,
                    QuarantineEntryRow::entry,
                )
                .await?;
                let open = entry
                    .transpose()?
                    .is_some_and(|entry| entry.resolution.is_none());
                if open {
                    let params = [
                        Param::Text(id.to_owned()),
                        Param::time(now),
                        Param::Text(resolution.to_owned()),
                        Param::Text(operator.to_owned()),
                    ];
                    Self::execute(connection, &s.resolve, &params).await?;
                }
                Ok(open)
            }
        }

        impl Operations for $store {
            fn ledger_health(&self, now: DateTime<Utc>) -> StoreFuture<'_, LedgerHealth> {
                within!(&self.readers, SEARCH_TIMEOUT, |connection| async {
                    let s = &self.statements.operations;
                    let mut rows: BTreeMap<Status, i64> =
                        Self::totals(connection, (&s.open_by_status, &[][..])).await?;
                    rows.retain(|_, total| *total > 0);
                    let few = Self::total(connection, &s.few_rows).await?;
                    let is_estimate = few > Param::count(COUNTED_EXACTLY);
                    let all = match is_estimate {
                        true => Self::total(connection, &s.about_rows).await?,
                        false => few,
                    };
                    let completed = all - rows.values().sum::<i64>();
                    if completed > 0 {
                        rows.insert(Status::Completed, completed);
                    }
                    let due: Vec<TotalRow> =
                        Self::load(connection, &s.due_rows, &[Param::time(now)]).await?;
                    let oldest =
                        Self::first(connection, &s.oldest_open, &[], |row: MomentRow| row.moment);
                    let oldest = oldest.await?.flatten();
                    let most = [Param::limit(MOST_ERRORS)];
                    let errors: Vec<ErrorRow> = Self::load(connection, &s.errors, &most).await?;
                    Ok(LedgerHealth {
                        rows,
                        completed_is_estimate: is_estimate,
                        due: due.iter().map(|row| row.total).sum(),
                        oldest_open_at: oldest.map(|time| time.and_utc()),
                        errors: errors.into_iter().map(ErrorCount::from).collect(),
                    })
                })
            }

            fn search<'a>(
                &'a self,
                filter: &'a LedgerFilter,
                after: Option<(DateTime<Utc>, String)>,
                limit: usize,
            ) -> StoreFuture<'a, LedgerPage> {
                within!(&self.readers, SEARCH_TIMEOUT, |connection| async {
                    let s = &self.statements.operations;
                    let text =
                        |place: &(DateTime<Utc>, String)| (time_text(place.0), place.1.clone());
                    let after = after.as_ref().map(text);
                    let after = after.as_ref().map(|(moment, id)| (&**moment, &**id));
                    let ways = s.ways(filter);
                    let mut end: Option<(DateTime<Utc>, String)> = None;
                    for way in ways.iter().filter(|way| way.windowed) {
                        let (statement, params) = s.window_end(way, filter, after);
                        let last =
                            Self::first(connection, &statement, &params, PlaceRow::place).await?;
                        // Each way has been looked through down to the newest of the ends.
                        end = end.max(last);
                    }
                    let down_to = end.as_ref().map(text);
                    let down_to = down_to.as_ref().map(|(moment, id)| (&**moment, &**id));
                    let mut entries = Vec::new();
                    for way in &ways {
                        let (statement, params) =
                            s.search(way, filter, (after, down_to), limit + 1);
                        let rows: Vec<LedgerEntryRow> =
                            Self::load(connection, &statement, &params).await?;
                        entries.extend(rows.into_iter().map(LedgerEntry::from));
                    }
                    Ok(LedgerPage::of(entries, end, limit))
                })
            }

            fn event_record<'a>(&'a self, event_id: &'a str) -> StoreFuture<'a, EventRecord> {
                within!(&self.readers, self.timeout, |connection| self
                    .event_record_on(connection, event_id))
            }

            fn intervene<'a>(
                &'a self,
                event_ids: &'a [String],
                intervention: &'a Intervention,
            ) -> StoreFuture<'a, Vec<LedgerRow>> {
                old_transact!(self, $begin, |connection| self.intervene_on(
                    connection,
                    event_ids,
                    intervention
                ))
            }

            fn count_matching<'a>(
                &'a self,
                kind: JobKind,
                filter: &'a LedgerFilter,
            ) -> StoreFuture<'a, BTreeMap<Status, i64>> {
                within!(&self.readers, SEARCH_TIMEOUT, |connection| async {
                    let s = &self.statements.operations;
                    let (statement, params) = s.count_matching(kind, filter);
                    Self::totals(connection, (&statement, &params)).await
                })
            }

            fn create_job<'a>(
                &'a self,
                job: &'a NewJob,
                filter: Option<&'a LedgerFilter>,
            ) -> StoreFuture<'a, Option<Job>> {
                within!(&self.writers, SNAPSHOT_TIMEOUT, |connection| async {
                    old_in_transaction!(
                        $begin,
                        connection,
                        self.create_job_on(connection, job, filter)
                    )
                })
            }

            fn job<'a>(&'a self, id: &'a str) -> StoreFuture<'a, Option<Job>> {
                within!(&self.readers, self.timeout, |connection| async {
                    let statement = &self.statements.operations.job;
                    let key = [Param::Text(id.to_owned())];
                    Self::first(connection, statement, &key, JobRow::job)
                        .await?
                        .transpose()
                })
            }

            fn jobs(&self, kind: Option<JobKind>, limit: usize) -> StoreFuture<'_, Vec<Job>> {
                within!(&self.readers, self.timeout, |connection| async {
                    let s = &self.statements.operations;
                    let mut params = vec![Param::limit(limit)];
                    let statement = match kind {
                        None => &s.jobs,
                        Some(kind) => {
                            params.push(Param::Text(kind.as_str().to_owned()));
                            &s.jobs_of_kind
                        }
                    };
                    let rows: Vec<JobRow> = Self::load(connection, statement, &params).await?;
                    rows.into_iter().map(JobRow::job).collect()
                })
            }

            fn claim_job<'a>(
                &'a self,
                id: Option<&'a str>,
                now: DateTime<Utc>,
                until: DateTime<Utc>,
            ) -> StoreFuture<'a, Option<Job>> {
                old_transact!(self, $begin, |connection| self
                    .claim_job_on(connection, id, now, until))
            }

            fn step_job<'a>(
                &'a self,
                job: &'a Job,
                intervention: &'a Intervention,
                limit: usize,
                until: DateTime<Utc>,
            ) -> StoreFuture<'a, Option<JobStep>> {
                old_transact!(self, $begin, |connection| self.step_job_on(
                    connection,
                    job,
                    intervention,
                    limit,
                    until
                ))
            }

            fn report_job<'a>(
                &'a self,
                job: &'a Job,
                report: &'a JobReport,
                now: DateTime<Utc>,
            ) -> StoreFuture<'a, bool> {
                old_transact!(self, $begin, |connection| self
                    .report_job_on(connection, job, report, now))
            }

            fn cancel_job<'a>(
                &'a self,
                id: &'a str,
                now: DateTime<Utc>,
            ) -> StoreFuture<'a, Option<Job>> {
                old_transact!(self, $begin, |connection| self
                    .cancel_job_on(connection, id, now))
            }

            fn prune_jobs(&self, before: DateTime<Utc>, limit: usize) -> StoreFuture<'_, usize> {
                old_transact!(self, $begin, |connection| self
                    .prune_jobs_on(connection, before, limit))
            }

            fn quarantine_entries(
                &self,
                resolved: Option<bool>,
                after: Option<(DateTime<Utc>, String)>,
                limit: usize,
            ) -> StoreFuture<'_, Vec<QuarantineEntry>> {
                within!(&self.readers, self.timeout, |connection| async {
                    let after = after.map(|(moment, id)| (time_text(moment), id));
                    let after = after.as_ref().map(|(moment, id)| (&**moment, &**id));
                    let s = &self.statements.operations;
                    let (statement, params) = s.quarantine_entries(resolved, after, limit);
                    let rows: Vec<QuarantineEntryRow> =
                        Self::load(connection, &statement, &params).await?;
                    rows.into_iter().map(QuarantineEntryRow::entry).collect()
                })
            }

            fn quarantine_entry<'a>(
                &'a self,
                id: &'a str,
            ) -> StoreFuture<'a, Option<QuarantineEntry>> {
                within!(&self.readers, self.timeout, |connection| async {
                    let statement = &self.statements.operations.quarantine_entry;
                    let key = [Param::Text(id.to_owned())];
                    Self::first(connection, statement, &key, QuarantineEntryRow::entry)
                        .await?
                        .transpose()
                })
            }

            fn resolve_quarantined<'a>(
                &'a self,
                id: &'a str,
                resolution: &'a str,
                operator: &'a str,
                now: DateTime<Utc>,
            ) -> StoreFuture<'a, bool> {
                old_transact!(self, $begin, |connection| self.resolve_on(
                    connection,
                    (id, resolution, operator),
                    now
                ))
            }
        }
    };
}

pub(in crate::store) use sql_operations;
