//! [`Lists`](crate::store::Lists) over SQL.

/// Implements [`Lists`](crate::store::Lists) for a store that `sql_store!` has defined.
macro_rules! sql_lists {
    ($store:ident, $connection:ty) => {
        impl $store {
            async fn likes_on(
                connection: &mut $connection,
                statement: &Statement,
                params: &[Param],
                resource_type: ResourceType,
            ) -> Result<Vec<(Pair, Version)>, StoreError> {
                let rows: Vec<StateRow> = Self::load(connection, statement, params).await?;
                let like = |row: &StateRow| {
                    let (pair, mark) = row.state(resource_type);
                    (pair, mark.version)
                };
                Ok(rows.iter().map(like).collect())
            }
        }

        impl Lists for $store {
            fn likers(
                &self,
                resource: Resource,
                below: Cursor,
                limit: usize,
            ) -> StoreFuture<'_, Vec<(Pair, Version)>> {
                within!(&self.readers, self.timeout, |connection| async {
                    let statement = &self.statements.lists(resource.resource_type).likers;
                    let params = page_params(resource.id, below, limit);
                    Self::likes_on(connection, statement, &params, resource.resource_type).await
                })
            }

            fn liked_by(
                &self,
                user_id: UserId,
                resource_type: ResourceType,
                below: Cursor,
                limit: usize,
            ) -> StoreFuture<'_, Vec<(Pair, Version)>> {
                within!(&self.readers, self.timeout, |connection| async {
                    let statement = &self.statements.lists(resource_type).liked_by;
                    let params = page_params(user_id, below, limit);
                    Self::likes_on(connection, statement, &params, resource_type).await
                })
            }

            fn liked_by_from(
                &self,
                user_id: UserId,
                resource_type: ResourceType,
                offset: usize,
                limit: usize,
            ) -> StoreFuture<'_, Vec<(Pair, Version)>> {
                within!(&self.readers, self.timeout, |connection| async {
                    let statement = &self.statements.lists(resource_type).liked_by_from;
                    let params = [
                        Param::Number(user_id),
                        Param::limit(limit),
                        Param::limit(offset),
                    ];
                    Self::likes_on(connection, statement, &params, resource_type).await
                })
            }

            fn liked_total(
                &self,
                user_id: UserId,
                resource_type: ResourceType,
            ) -> StoreFuture<'_, i64> {
                within!(&self.readers, self.timeout, |connection| async {
                    let statement = &self.statements.lists(resource_type).liked_total;
                    let params = [Param::Number(user_id)];
                    let rows: Vec<TotalRow> = Self::load(connection, statement, &params).await?;
                    Ok(rows.iter().map(|row| row.total).sum())
                })
            }

            fn most_liked(
                &self,
                resource_type: ResourceType,
                (like_count, id): (i64, i64),
                limit: usize,
            ) -> StoreFuture<'_, Vec<(Resource, LikeCount)>> {
                within!(&self.readers, self.timeout, |connection| async {
                    let statement = &self.statements.lists(resource_type).most_liked;
                    let params = [
                        Param::Number(like_count),
                        Param::Number(id),
                        Param::limit(limit),
                    ];
                    let rows: Vec<CountRow> = Self::load(connection, statement, &params).await?;
                    rows.iter().map(CountRow::count).collect()
                })
            }
        }
    };
}

pub(in crate::store) use sql_lists;
