//! [`IdempotencyKeys`](crate::store::IdempotencyKeys) over SQL.

/// Implements [`IdempotencyKeys`](crate::store::IdempotencyKeys) for a store that `sql_store!` has defined.
macro_rules! sql_idempotency {
    ($store:ident, $connection:ty, $begin:ident) => {
        impl $store {
            async fn begin_requests_on(
                &self,
                connection: &mut $connection,
                requests: &[KeyedRequest],
                now: DateTime<Utc>,
                lease_until: DateTime<Utc>,
            ) -> Result<Vec<Started>, StoreError> {
                let s = &self.statements.idempotency;
                let mut rows: Vec<_> = requests
                    .iter()
                    .map(|request| {
                        (
                            &request.id,
                            &request.caller,
                            &request.key,
                            &request.fingerprint,
                            id_text(request.identity.event_id),
                            request.identity.version,
                        )
                    })
                    .collect();
                // In one order everywhere, so that two processes that are given the same keys do not wait
                // for each other.
                rows.sort();
                let ids: BTreeSet<_> = rows.iter().map(|row| (row.0,)).collect();
                let ids: Vec<_> = ids.into_iter().collect();
                let params = [
                    Param::rows(&rows),
                    Param::time(now),
                    Param::time(lease_until),
                ];
                Self::execute(connection, &s.insert, &params).await?;
                let rows: Vec<KeptRow> =
                    Self::load(connection, &s.kept, &[Param::rows(&ids)]).await?;
                let mut kept = BTreeMap::new();
                for row in rows {
                    let (id, request) = row.kept()?;
                    kept.insert(id, request);
                }
                let mut taken = Vec::new();
                let mut begun = Vec::with_capacity(requests.len());
                for request in requests {
                    let Some(found) = kept.get_mut(&request.id) else {
                        // It was pruned in between: as good as a key that lapses at once.
                        begun.push(Started::InProgress);
                        continue;
                    };
                    let (outcome, is_taken) = found.start(request, now, lease_until);
                    begun.push(outcome);
                    if is_taken {
                        taken.push((
                            &request.id,
                            request.fingerprint.clone(),
                            id_text(found.event_id),
                            found.version,
                            id_text(found.holder),
                            time_text(found.created_at),
                        ));
                    }
                }
                if !taken.is_empty() {
                    let params = [Param::rows(&taken), Param::time(lease_until)];
                    Self::execute(connection, &s.take, &params).await?;
                }
                Ok(begun)
            }

            async fn end_requests_on(
                &self,
                connection: &mut $connection,
                ended: &[StoredResponse],
                now: DateTime<Utc>,
            ) -> Result<(), StoreError> {
                let mut rows: Vec<_> = ended
                    .iter()
                    .map(|ended| (&ended.id, id_text(ended.holder), &ended.answer))
                    .collect();
                rows.sort();
                let params = [Param::rows(&rows), Param::time(now)];
                Self::execute(connection, &self.statements.idempotency.end, &params).await
            }

            async fn prune_requests_on(
                &self,
                connection: &mut $connection,
                before: DateTime<Utc>,
                limit: usize,
            ) -> Result<usize, StoreError> {
                let s = &self.statements.idempotency;
                let params = [Param::time(before), Param::limit(limit)];
                let old: Vec<IdRow> = Self::load(connection, &s.prunable, &params).await?;
                let ids: Vec<_> = old.iter().map(|row| (&row.bound,)).collect();
                if !ids.is_empty() {
                    Self::execute(connection, &s.delete, &[Param::rows(&ids)]).await?;
                }
                Ok(ids.len())
            }
        }

        impl IdempotencyKeys for $store {
            fn begin_requests<'a>(
                &'a self,
                requests: &'a [KeyedRequest],
                now: DateTime<Utc>,
                lease_until: DateTime<Utc>,
            ) -> StoreFuture<'a, Vec<Started>> {
                old_transact!(self, $begin, |connection| self.begin_requests_on(
                    connection,
                    requests,
                    now,
                    lease_until
                ))
            }

            fn end_requests<'a>(
                &'a self,
                ended: &'a [StoredResponse],
                now: DateTime<Utc>,
            ) -> StoreFuture<'a, ()> {
                old_transact!(self, $begin, |connection| self
                    .end_requests_on(connection, ended, now))
            }

            fn prune_requests(
                &self,
                before: DateTime<Utc>,
                limit: usize,
            ) -> StoreFuture<'_, usize> {
                old_transact!(self, $begin, |connection| self
                    .prune_requests_on(connection, before, limit))
            }
        }
    };
}

pub(in crate::store) use sql_idempotency;
