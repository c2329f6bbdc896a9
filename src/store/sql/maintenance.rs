//! [`Maintenance`](crate::store::Maintenance) over SQL.

/// Implements [`Maintenance`](crate::store::Maintenance) for a store that `sql_store!` has defined.
macro_rules! sql_maintenance {
    ($store:ident, $connection:ty, $begin:ident) => {
        impl $store {
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
        }

        impl Maintenance for $store {
            fn repair<'a>(
                &'a self,
                found: &'a [Discrepancy],
                now: DateTime<Utc>,
            ) -> StoreFuture<'a, Repaired> {
                old_transact!(self, $begin, |connection| self
                    .repair_on(connection, found, now))
            }
        }
    };
}

pub(in crate::store) use sql_maintenance;
