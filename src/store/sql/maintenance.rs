//! [`Maintenance`](crate::store::Maintenance) over SQL.

/// Implements [`Maintenance`](crate::store::Maintenance) for a store that `sql_store!` has defined.
macro_rules! sql_maintenance {
    ($store:ident, $connection:ty, $begin:ident) => {
        impl $store {
            /// How long one chunk of an audit may take.
            fn inspect_timeout(&self) -> Duration {
                self.timeout * INSPECT_TIMEOUTS
            }

            async fn inspect_on(
                &self,
                connection: &mut $connection,
                chunk: &Chunk,
            ) -> Result<Vec<Discrepancy>, StoreError> {
                let s = &self.statements.maintenance;
                let params = chunk_params(chunk);
                match chunk.pass {
                    Pass::Behaviors | Pass::Ledger => {
                        let statement = match chunk.pass {
                            Pass::Ledger => &s.audit_ledger,
                            _ => &s.audit_behaviors,
                        };
                        let rows: Vec<EventFindingRow> =
                            Self::load(connection, statement, &params).await?;
                        rows.into_iter().map(EventFindingRow::discrepancy).collect()
                    }
                    Pass::Likes(resource_type) => {
                        let statement = &s.likes(resource_type).audit_likes;
                        let rows: Vec<LikeFindingRow> =
                            Self::load(connection, statement, &params).await?;
                        // By user, because no index has all rows of a resource, liked or not.
                        let statement = &s.likes(resource_type).audit_uncounted;
                        let uncounted: Vec<CountFindingRow> =
                            Self::load(connection, statement, &params).await?;
                        let uncounted = uncounted.iter().map(|row| row.discrepancy(resource_type));
                        Ok(rows
                            .into_iter()
                            .map(|row| row.discrepancy(resource_type))
                            .chain(uncounted)
                            .collect())
                    }
                    Pass::Counts(resource_type) => {
                        let statement = &s.likes(resource_type).audit_counts;
                        let rows: Vec<CountFindingRow> =
                            Self::load(connection, statement, &params).await?;
                        Ok(rows
                            .iter()
                            .map(|row| row.discrepancy(resource_type))
                            .collect())
                    }
                }
            }

            async fn repair_on(
                &self,
                connection: &mut $connection,
                found: &[Discrepancy],
                now: DateTime<Utc>,
            ) -> Result<Repaired, StoreError> {
                let events = |finding| -> Vec<_> {
                    found
                        .iter()
                        .filter(|one| one.finding == finding)
                        .filter_map(|one| match &one.subject {
                            Subject::Event(id) => Some((id,)),
                            _ => None,
                        })
                        .collect()
                };
                let mut repaired = Repaired::default();
                let unlisted = events(Finding::MissingLedgerRow);
                let unfounded = events(Finding::MissingBehavior);
                let broken = events(Finding::BrokenLedgerRow);
                let s = &self.statements.maintenance;
                repaired.rows += unlisted.len() + unfounded.len() + broken.len();
                if !broken.is_empty() {
                    let params = [Param::rows(&broken), Param::time(now)];
                    Self::execute(connection, &s.mend_ledger, &params).await?;
                }
                if !unlisted.is_empty() {
                    let params = [Param::rows(&unlisted), Param::time(now)];
                    Self::execute(connection, &s.restore_ledger, &params).await?;
                }
                let restored: Vec<_> = unlisted.iter().chain(&unfounded).collect();
                let mut pairs: BTreeSet<Pair> = found
                    .iter()
                    .filter_map(|one| match one.subject {
                        Subject::Pair(pair) => Some(pair),
                        _ => None,
                    })
                    .collect();
                if !restored.is_empty() {
                    let rows: Vec<EventRow> =
                        Self::load(connection, &s.ledger_rows, &[Param::rows(&restored)]).await?;
                    // What cannot be read is no event of ours; nothing can be told of it.
                    let rows: Vec<_> = rows
                        .iter()
                        .filter_map(|row| row.ledger_row().ok().map(|(_, row)| row))
                        .collect();
                    let behaviors: Vec<_> = rows
                        .iter()
                        .map(|row| (id_text(row.event_id), time_text(row.version.moment())))
                        .collect();
                    let params = [Param::rows(&behaviors)];
                    Self::execute(connection, &s.restore_behaviors, &params).await?;
                    let history: Vec<_> = rows.iter().map(restored_columns).collect();
                    let params = [Param::rows(&history), Param::time(now)];
                    Self::execute(connection, &self.statements.history, &params).await?;
                    pairs.extend(rows.iter().map(|row| Pair {
                        resource: row.resource,
                        user_id: row.user_id,
                    }));
                }
                let counts: BTreeSet<Resource> = found
                    .iter()
                    .filter_map(|one| match one.subject {
                        Subject::Resource(resource) if one.finding == Finding::WrongCount => {
                            Some(resource)
                        }
                        _ => None,
                    })
                    .collect();
                repaired.rows += self.refold_on(connection, &pairs, &counts, now).await?;
                repaired.resources = pairs
                    .iter()
                    .map(|pair| pair.resource)
                    .chain(counts)
                    .collect::<BTreeSet<_>>()
                    .into_iter()
                    .collect();
                Ok(repaired)
            }

            /// Makes the rows of these pairs what their events add up to, and counts these resources
            /// anew. Answers how many rows it wrote or removed.
            async fn refold_on(
                &self,
                connection: &mut $connection,
                pairs: &BTreeSet<Pair>,
                recount: &BTreeSet<Resource>,
                now: DateTime<Utc>,
            ) -> Result<usize, StoreError> {
                let resources: BTreeSet<Resource> = pairs
                    .iter()
                    .map(|pair| pair.resource)
                    .chain(recount.iter().copied())
                    .collect();
                if resources.is_empty() {
                    return Ok(0);
                }
                let mut counts = self.lock_counts_on(connection, &resources, now).await?;
                let stored = self.states_on(connection, pairs).await?;
                let folded = self.folds_on(connection, pairs).await?;
                let mut rows = 0;
                let mut changes: BTreeMap<Resource, i64> = BTreeMap::new();
                let weight = |mark: Option<&VersionedState>| mark.map_or(0, |mark| mark.weight());
                let differing: Vec<&Pair> = pairs
                    .iter()
                    .filter(|pair| stored.get(pair) != folded.get(pair))
                    .collect();
                for pair in &differing {
                    *changes.entry(pair.resource).or_default() +=
                        weight(folded.get(pair)) - weight(stored.get(pair));
                }
                let wrong = folded
                    .iter()
                    .filter(|(pair, mark)| stored.get(pair) != Some(mark));
                rows += self.write_states_on(connection, wrong).await?;
                for resource_type in ResourceType::ALL {
                    let strays: Vec<_> = differing
                        .iter()
                        .filter(|pair| pair.resource.resource_type == resource_type)
                        .filter(|pair| !folded.contains_key(pair))
                        .map(|pair| (pair.resource.id, pair.user_id))
                        .collect();
                    rows += strays.len();
                    if !strays.is_empty() {
                        let statement = &self.statements.maintenance.likes(resource_type).delete;
                        Self::execute(connection, statement, &[Param::rows(&strays)]).await?;
                    }
                }
                // A count that is wrong already may not be changed by a difference: it could fall below zero.
                let mut recount = recount.clone();
                recount.extend(changes.iter().filter_map(|(resource, change)| {
                    let count = counts.get(resource).map_or(0, |count| count.like_count);
                    (count + change < 0).then_some(*resource)
                }));
                // Where the rows are counted, the changes are in them already.
                for (resource, likes) in self.count_likes_on(connection, &recount).await? {
                    let count = counts.get(&resource).map_or(0, |count| count.like_count);
                    changes.insert(resource, likes - count);
                    rows += usize::from(likes != count);
                }
                self.write_counts_on(connection, &mut counts, &changes, now)
                    .await?;
                Ok(rows)
            }

            async fn folds_on(
                &self,
                connection: &mut $connection,
                pairs: &BTreeSet<Pair>,
            ) -> Result<BTreeMap<Pair, VersionedState>, StoreError> {
                let mut folds = BTreeMap::new();
                for resource_type in ResourceType::ALL {
                    let statement = &self.statements.maintenance.likes(resource_type).fold;
                    folds
                        .extend(Self::pairs_on(connection, statement, pairs, resource_type).await?);
                }
                Ok(folds)
            }

            async fn count_likes_on(
                &self,
                connection: &mut $connection,
                resources: &BTreeSet<Resource>,
            ) -> Result<BTreeMap<Resource, i64>, StoreError> {
                let mut likes = BTreeMap::new();
                for resource_type in ResourceType::ALL {
                    let wanted: Vec<_> = resources
                        .iter()
                        .filter(|resource| resource.resource_type == resource_type)
                        .map(|resource| (resource.id,))
                        .collect();
                    if !wanted.is_empty() {
                        let statement = &self.statements.maintenance.likes(resource_type).count;
                        let rows: Vec<LikesRow> =
                            Self::load(connection, statement, &[Param::rows(&wanted)]).await?;
                        likes.extend(rows.iter().map(|row| row.likes(resource_type)));
                    }
                }
                Ok(likes)
            }

            async fn prune_ledger_on(
                &self,
                connection: &mut $connection,
                before: DateTime<Utc>,
                limit: usize,
            ) -> Result<usize, StoreError> {
                let s = &self.statements.maintenance;
                let params = [Param::rows(&[(LEDGER,)]), Param::time(before)];
                Self::execute(connection, &s.note_pruned, &params).await?;
                let params = [Param::time(before), Param::limit(limit)];
                let rows: Vec<IdRow> = Self::load(connection, &s.prunable_ledger, &params).await?;
                let ids: Vec<_> = rows.iter().map(|row| (&row.bound,)).collect();
                if !ids.is_empty() {
                    let ids = [Param::rows(&ids)];
                    Self::execute(connection, &s.delete_history, &ids).await?;
                    Self::execute(connection, &s.delete_ledger, &ids).await?;
                }
                Ok(ids.len())
            }

            async fn prune_behaviors_on(
                &self,
                connection: &mut $connection,
                behaviors: &[ArchivedBehavior],
            ) -> Result<(), StoreError> {
                let s = &self.statements.maintenance;
                let ids: Vec<_> = behaviors.iter().map(|one| (&one.event_id,)).collect();
                let ids = [Param::rows(&ids)];
                for statement in [&s.delete_history, &s.delete_ledger, &s.delete_behaviors] {
                    Self::execute(connection, statement, &ids).await?;
                }
                Ok(())
            }
        }

        impl Maintenance for $store {
            fn journaled<'a>(
                &'a self,
                ids: &'a [uuid::Uuid],
            ) -> StoreFuture<'a, BTreeMap<uuid::Uuid, Journaled>> {
                within!(&self.readers, self.inspect_timeout(), |connection| async {
                    let ids: Vec<_> = ids.iter().map(|id| (id_text(*id),)).collect();
                    let statement = &self.statements.maintenance.journaled;
                    let rows: Vec<JournaledRow> =
                        Self::load(connection, statement, &[Param::rows(&ids)]).await?;
                    rows.into_iter().map(JournaledRow::journaled).collect()
                })
            }

            fn acknowledged_in_quarantine(&self, examples: usize) -> StoreFuture<'_, Check> {
                // `/readyz` asks as often as it is asked, which must not decide about the readers' breaker.
                within!(&self.prober, self.timeout, |connection| async {
                    let found = self
                        .quarantine_check_on(connection, 0, examples.max(1))
                        .await?;
                    Ok(Check {
                        checked: found.differences,
                        ..found
                    })
                })
            }

            fn quarantined_events<'a>(
                &'a self,
                ids: &'a [uuid::Uuid],
            ) -> StoreFuture<'a, BTreeMap<String, String>> {
                within!(&self.readers, self.inspect_timeout(), |connection| async {
                    let ids: Vec<_> = ids.iter().map(|id| (id_text(*id),)).collect();
                    let statement = &self.statements.maintenance.quarantined_events;
                    let rows: Vec<DifferenceRow> =
                        Self::load(connection, statement, &[Param::rows(&ids)]).await?;
                    Ok(rows
                        .into_iter()
                        .map(|row| (row.subject, row.found))
                        .collect())
                })
            }

            fn sizes(&self) -> StoreFuture<'_, Sizes> {
                within!(&self.readers, self.inspect_timeout(), |connection| async {
                    let mut sizes = [0; 3];
                    for (size, statement) in
                        sizes.iter_mut().zip(&self.statements.maintenance.sizes)
                    {
                        *size = Self::total(connection, statement).await?.max(0);
                    }
                    let [behaviors, ledger_rows, counts] = sizes;
                    Ok(Sizes {
                        behaviors,
                        ledger_rows,
                        counts,
                    })
                })
            }

            fn chunk(&self, pass: Pass, after: Position, rows: usize) -> StoreFuture<'_, Chunk> {
                within!(&self.readers, self.inspect_timeout(), |connection| async {
                    let s = &self.statements.maintenance;
                    let mut params = vec![position_param(&after), Param::limit(rows)];
                    let statement = match pass {
                        Pass::Ledger => &s.ledger_bound,
                        Pass::Behaviors | Pass::Likes(_) => &s.user_bound,
                        Pass::Counts(resource_type) => {
                            params.push(Param::Text(resource_type.as_str().to_owned()));
                            &s.count_bound
                        }
                    };
                    let until = if pass == Pass::Ledger {
                        let bound: Vec<IdRow> = Self::load(connection, statement, &params).await?;
                        bound.into_iter().next().map(|row| Position::Id(row.bound))
                    } else {
                        let bound: Vec<BoundRow> =
                            Self::load(connection, statement, &params).await?;
                        bound
                            .into_iter()
                            .next()
                            .map(|row| Position::Number(row.bound))
                    };
                    let mut chunk = Chunk {
                        pass,
                        after,
                        until,
                        rows: 0,
                    };
                    let mut params = Vec::from(chunk_params(&chunk));
                    let between = match pass {
                        Pass::Behaviors => Some(&s.behaviors_between),
                        Pass::Ledger => Some(&s.ledger_between),
                        Pass::Counts(resource_type) => {
                            params.push(Param::Text(resource_type.as_str().to_owned()));
                            Some(&s.counts_between)
                        }
                        Pass::Likes(_) => None,
                    };
                    if let Some(statement) = between {
                        let rows: Vec<TotalRow> =
                            Self::load(connection, statement, &params).await?;
                        chunk.rows = rows.iter().map(|row| row.total).sum();
                    }
                    Ok(chunk)
                })
            }

            fn inspect<'a>(&'a self, chunk: &'a Chunk) -> StoreFuture<'a, Vec<Discrepancy>> {
                within!(&self.readers, self.inspect_timeout(), |connection| self
                    .inspect_on(connection, chunk))
            }

            fn repair<'a>(
                &'a self,
                found: &'a [Discrepancy],
                now: DateTime<Utc>,
            ) -> StoreFuture<'a, Repaired> {
                old_transact!(self, $begin, |connection| self
                    .repair_on(connection, found, now))
            }

            fn open_pairs<'a>(&'a self, pairs: &'a [Pair]) -> StoreFuture<'a, Vec<Pair>> {
                within!(&self.readers, self.timeout, |connection| async {
                    let rows: Vec<_> = pairs
                        .iter()
                        .map(|pair| {
                            let Resource { resource_type, id } = pair.resource;
                            (resource_type.as_str(), id, pair.user_id)
                        })
                        .collect();
                    let statement = &self.statements.maintenance.open_pairs;
                    let rows: Vec<PairRow> =
                        Self::load(connection, statement, &[Param::rows(&rows)]).await?;
                    rows.iter().map(PairRow::pair).collect()
                })
            }

            fn overdue(&self, before: DateTime<Utc>) -> StoreFuture<'_, i64> {
                within!(&self.readers, self.timeout, |connection| async {
                    let statement = &self.statements.maintenance.overdue;
                    let rows: Vec<TotalRow> =
                        Self::load(connection, statement, &[Param::time(before)]).await?;
                    Ok(rows.iter().map(|row| row.total).sum())
                })
            }

            fn prune_ledger(&self, before: DateTime<Utc>, limit: usize) -> StoreFuture<'_, usize> {
                old_transact!(self, $begin, |connection| self
                    .prune_ledger_on(connection, before, limit))
            }

            fn prunable(
                &self,
                before: DateTime<Utc>,
                after: i64,
                limit: usize,
            ) -> StoreFuture<'_, Prunable> {
                within!(&self.readers, self.inspect_timeout(), |connection| async {
                    let s = &self.statements.maintenance;
                    let params = [Param::Number(after), Param::limit(limit)];
                    let bound: Vec<BoundRow> =
                        Self::load(connection, &s.behavior_bound, &params).await?;
                    let bound = bound.into_iter().next().map_or(0, |row| row.bound);
                    if bound <= after {
                        return Ok(Prunable::default());
                    }
                    let params = [
                        Param::Number(after),
                        Param::Number(bound),
                        Param::time(before),
                    ];
                    let rows: Vec<BehaviorRow> =
                        Self::load(connection, &s.prunable_behaviors, &params).await?;
                    Ok(Prunable {
                        behaviors: rows.into_iter().map(BehaviorRow::archived).collect(),
                        position: Some(bound),
                    })
                })
            }

            fn prune_behaviors<'a>(
                &'a self,
                behaviors: &'a [ArchivedBehavior],
            ) -> StoreFuture<'a, ()> {
                old_transact!(self, $begin, |connection| self
                    .prune_behaviors_on(connection, behaviors))
            }
        }
    };
}

pub(in crate::store) use sql_maintenance;
