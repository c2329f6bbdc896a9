//! Sessions: how every file of the store runs its SQL on any of the databases.
//!
//! # Adding or moving an operation
//! An operation lives in the file that is named after what it does; `record.rs` is the model. Such a file holds,
//! in this order:
//! 1. `impl Store { pub async fn thing(&self, ...) -> Result<T, StoreError> }`: the documented boundary. It runs
//!    the function below on a connection: [`read!`](super::read) for what only reads,
//!    [`transact!`](super::transact) for what writes. Both take the name of the session and the work. The transactions of
//!    every like use [`transact_owned!`](super::transact::transact_owned), with inputs that they own.
//! 2. `async fn thing<S: Session>(session: &mut S, ...) -> Result<T, StoreError>`: an ordinary generic function.
//!    It never names a database: [`Session::schema`] renders what differs.
//! 3. Its SQL, with the default names of the tables. Fixed text is a [`Sql`] (or a [`LikesSql`], for the table of one
//!    resource type), rendered once a schema: `static INSERT: Sql = Sql::new(|d| format!("INSERT ... {}",
//!    d.on_conflict(...)));`, then `session.execute(INSERT.on(session.schema()), &params)`. Text that depends on a
//!    filter is a [`Statement`], made on the spot: `session.schema().statement(format!(...))`.
//! 4. The row types that it loads: a struct that derives `QueryableByName` is a [`Row`].
//!
//! `$1`, `$2` ... stand for parameters, as often as wanted; `d.rows("$1", &COLUMNS)` makes a table named `r` of a
//! batch that [`Param::rows`] binds.
//!
//! To read from one snapshot, begin with [`Mode::Snapshot`] and hand the outcome to [`Session::end`].

use diesel::QueryResult;
use diesel::deserialize::QueryableByName;
use diesel::mysql::Mysql;
use diesel::pg::Pg;
use diesel::result::Error as DieselError;
use diesel::sql_types::{BigInt, Text};
use diesel::sqlite::Sqlite;

use super::error::StoreError;
use super::schema::Schema;
use super::statement::{Param, Statement};
use crate::domain::ResourceType;

/// A row that every database can be asked for. Derive `QueryableByName` to make one.
pub(super) trait Row:
    QueryableByName<Mysql> + QueryableByName<Pg> + QueryableByName<Sqlite> + Send + 'static
{
}

impl<T> Row for T where
    T: QueryableByName<Mysql> + QueryableByName<Pg> + QueryableByName<Sqlite> + Send + 'static
{
}

/// What a transaction is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// It writes. On SQLite it takes the write lock at once.
    Write,
    /// It reads all of its rows from one snapshot, and writes nothing.
    Snapshot,
}

/// A connection to one of the databases. Its errors are explained: classified by the database's own code.
pub(super) trait Session: Send {
    /// Returns the dialect of the database and the names of its tables.
    fn schema(&self) -> &'static Schema;

    /// Uses another schema of the same database from now on, until the session ends.
    fn use_schema(&mut self, schema: &'static Schema);

    /// Loads the rows of a statement.
    fn load<T: Row>(
        &mut self,
        statement: &Statement,
        params: &[Param],
    ) -> impl Future<Output = Result<Vec<T>, StoreError>> + Send;

    /// Executes a statement; returns how many rows the database says it was about.
    fn execute(
        &mut self,
        statement: &Statement,
        params: &[Param],
    ) -> impl Future<Output = Result<usize, StoreError>> + Send;

    /// Executes plain text without parameters.
    fn batch(&mut self, sql: &str) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Begins a transaction.
    fn begin(&mut self, mode: Mode) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Commits the transaction.
    fn commit(&mut self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Rolls the transaction back.
    fn rollback(&mut self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Ends the transaction with the outcome of its work: commits a success, rolls back a failure.
    fn end<T: Send>(
        &mut self,
        outcome: Result<T, StoreError>,
    ) -> impl Future<Output = Result<T, StoreError>> + Send {
        async move {
            match outcome {
                Ok(done) => self.commit().await.map(|()| done),
                Err(error) => {
                    self.rollback().await?;
                    Err(error)
                }
            }
        }
    }

    /// Loads rows of a [`TotalRow`] and adds up their totals.
    fn total(
        &mut self,
        statement: &Statement,
        params: &[Param],
    ) -> impl Future<Output = Result<i64, StoreError>> + Send {
        async move {
            let rows: Vec<TotalRow> = self.load(statement, params).await?;
            Ok(rows.iter().map(|row| row.total).sum())
        }
    }
}

/// A connection with the schema of its database. `H` holds the connection: a pool's object, or a box.
pub(super) struct Connected<H> {
    pub(super) connection: H,
    pub(super) schema: &'static Schema,
    /// Whether a statement has succeeded on it.
    pub(super) has_answered: bool,
}

impl<H> Connected<H> {
    pub(super) const fn new(connection: H, schema: &'static Schema) -> Self {
        Self {
            connection,
            schema,
            has_answered: false,
        }
    }

    /// Takes note of the outcome of a statement, and returns it.
    pub(super) fn heard<T>(&mut self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        self.has_answered |= outcome.is_ok();
        outcome
    }
}

/// Implements [`Session`] for a diesel-async connection that is [`Explain`](super::codes::Explain), lent by a pool or
/// owned; `$begin` is an `async fn(&mut Connection, Mode) -> QueryResult<()>`.
macro_rules! session {
    ($connection:ty, $begin:path) => {
        $crate::store::session::session!(
            @impl deadpool::managed::Object<
                diesel_async::pooled_connection::AsyncDieselConnectionManager<$connection>,
            >, $begin
        );
        $crate::store::session::session!(@impl Box<$connection>, $begin);
    };
    (@impl $holder:ty, $begin:path) => {
        impl $crate::store::session::Session for $crate::store::session::Connected<$holder> {
            fn schema(&self) -> &'static $crate::store::schema::Schema {
                self.schema
            }

            fn use_schema(&mut self, schema: &'static $crate::store::schema::Schema) {
                self.schema = schema;
            }

            async fn load<T: $crate::store::session::Row>(
                &mut self,
                statement: &$crate::store::statement::Statement,
                params: &[$crate::store::statement::Param],
            ) -> Result<Vec<T>, $crate::store::error::StoreError> {
                let query = $crate::store::statement::Query { statement, params };
                let connection = &mut *self.connection;
                let loaded = diesel_async::RunQueryDsl::load(query, connection).await;
                let loaded = $crate::store::codes::explained(connection, loaded).await;
                self.heard(loaded)
            }

            async fn execute(
                &mut self,
                statement: &$crate::store::statement::Statement,
                params: &[$crate::store::statement::Param],
            ) -> Result<usize, $crate::store::error::StoreError> {
                let query = $crate::store::statement::Query { statement, params };
                let connection = &mut *self.connection;
                let done = diesel_async::RunQueryDsl::execute(query, connection).await;
                let done = $crate::store::codes::explained(connection, done).await;
                self.heard(done)
            }

            async fn batch(&mut self, sql: &str) -> Result<(), $crate::store::error::StoreError> {
                let connection = &mut *self.connection;
                let done =
                    diesel_async::SimpleAsyncConnection::batch_execute(connection, sql).await;
                let done = $crate::store::codes::explained(connection, done).await;
                self.heard(done)
            }

            async fn begin(
                &mut self,
                mode: $crate::store::session::Mode,
            ) -> Result<(), $crate::store::error::StoreError> {
                let connection = &mut *self.connection;
                let begun = $begin(connection, mode).await;
                let begun = $crate::store::codes::explained(connection, begun).await;
                self.heard(begun)
            }

            async fn commit(&mut self) -> Result<(), $crate::store::error::StoreError> {
                let connection = &mut *self.connection;
                let done = $crate::store::session::commit(connection).await;
                $crate::store::codes::explained(connection, done).await
            }

            async fn rollback(&mut self) -> Result<(), $crate::store::error::StoreError> {
                let connection = &mut *self.connection;
                let done = $crate::store::session::rollback(connection).await;
                $crate::store::codes::explained(connection, done).await
            }
        }
    };
}

pub(super) use session;

/// Begins a transaction with `BEGIN`.
pub(super) async fn begin<C: diesel_async::AsyncConnection>(connection: &mut C) -> QueryResult<()> {
    <C::TransactionManager as diesel_async::TransactionManager<C>>::begin_transaction(connection)
        .await
}

pub(super) async fn commit<C: diesel_async::AsyncConnection>(
    connection: &mut C,
) -> QueryResult<()> {
    <C::TransactionManager as diesel_async::TransactionManager<C>>::commit_transaction(connection)
        .await
}

pub(super) async fn rollback<C: diesel_async::AsyncConnection>(
    connection: &mut C,
) -> QueryResult<()> {
    let done = <C::TransactionManager as diesel_async::TransactionManager<C>>::rollback_transaction(
        connection,
    );
    unless_broken(done.await)
}

/// Returns the outcome of a rollback. The error that broke the transaction says more.
pub(super) fn unless_broken(done: QueryResult<()>) -> QueryResult<()> {
    match done {
        Err(DieselError::BrokenTransactionManager) => Ok(()),
        done => done,
    }
}

/// A statement of fixed text, rendered once for each schema.
pub(super) struct Sql {
    render: fn(&'static Schema) -> String,
}

impl Sql {
    /// Makes a statement from the function that writes its text.
    pub(super) const fn new(render: fn(&'static Schema) -> String) -> Self {
        Self { render }
    }

    /// Returns the statement for this schema.
    pub(super) fn on(&'static self, schema: &'static Schema) -> &'static Statement {
        let key = (std::ptr::from_ref(self).addr(), None);
        schema.rendered(key, || (self.render)(schema))
    }
}

/// A statement over the read model of one resource type, rendered once for each schema and type.
pub(super) struct LikesSql {
    render: fn(&'static Schema, ResourceType) -> String,
}

impl LikesSql {
    /// Makes a statement from the function that writes its text.
    pub(super) const fn new(render: fn(&'static Schema, ResourceType) -> String) -> Self {
        Self { render }
    }

    /// Returns the statement over the table of this resource type.
    pub(super) fn on(
        &'static self,
        schema: &'static Schema,
        resource_type: ResourceType,
    ) -> &'static Statement {
        let key = (std::ptr::from_ref(self).addr(), Some(resource_type));
        schema.rendered(key, || (self.render)(schema, resource_type))
    }
}

/// A label and how many there are of it.
#[derive(Debug, diesel::QueryableByName)]
pub(super) struct TotalRow {
    #[diesel(sql_type = Text)]
    pub(super) label: String,
    #[diesel(sql_type = BigInt)]
    pub(super) total: i64,
}

/// An id: of an event, a job or a request.
#[derive(Debug, diesel::QueryableByName)]
pub(super) struct IdRow {
    #[diesel(sql_type = Text)]
    pub(super) id: String,
}
