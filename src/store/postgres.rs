//! PostgreSQL 14 or newer.

use std::str::FromStr;
use std::sync::Arc;

use diesel::{ConnectionError, QueryResult};
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use tokio::net::UnixStream;
use tokio_postgres::config::{Host, SslMode, SslNegotiation};
use tokio_postgres::{Config, NoTls};

use super::codes::{Explain, Meaning, known};
use super::connections::SessionLimits;
use super::endpoint::Endpoint;
use super::error::StoreError;
use super::migrate::{Migrate, Script, scripts};
use super::postgres_tap::{LastSqlState, Tap, Tapping, without_tls};
use super::session::{self, Mode, session};

/// A migration waits for the locks of running transactions without a time limit.
const MIGRATING: &str = "SET TIME ZONE 'UTC'; SET lock_timeout = 0; SET statement_timeout = 0; \
    SET idle_in_transaction_session_timeout = 0";

/// Makes the transaction that has just begun read from one snapshot.
const SNAPSHOT: &str = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY";

/// Connects.
pub(super) async fn establish(
    endpoint: Arc<Endpoint>,
    limits: SessionLimits,
) -> Result<AsyncPgConnection, ConnectionError> {
    let session = format!(
        "SET TIME ZONE 'UTC'; SET lock_timeout = {}; SET idle_in_transaction_session_timeout = {}",
        limits.lock_wait.as_millis(),
        limits.idle_in_transaction.as_millis()
    );
    establish_with(&endpoint, &session).await
}

/// Connects, with a [`Tap`] on the connection.
async fn establish_with(
    endpoint: &Endpoint,
    session: &str,
) -> Result<AsyncPgConnection, ConnectionError> {
    let invalid =
        |error: tokio_postgres::Error| ConnectionError::InvalidConnectionUrl(error.to_string());
    let config = tokio_postgres::Config::from_str(&endpoint.url).map_err(invalid)?;
    let last = LastSqlState::default();
    let mut connection = connect_tapped(endpoint, config, &last).await?;
    connection.set_instrumentation(last);
    let search_path = endpoint.schema.as_ref();
    let search_path = search_path.map(|schema| format!("; SET search_path TO \"{schema}\""));
    connection
        .batch_execute(&format!("{session}{}", search_path.unwrap_or_default()))
        .await
        .map_err(ConnectionError::CouldntSetupConfiguration)?;
    Ok(connection)
}

async fn connect_tapped(
    endpoint: &Endpoint,
    mut config: Config,
    last: &LastSqlState,
) -> Result<AsyncPgConnection, ConnectionError> {
    let bad = |error: tokio_postgres::Error| {
        if without_tls(&error) {
            return endpoint.without_tls();
        }
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        endpoint.refusal(&error, &cause.unwrap_or_else(|| error.to_string()))
    };
    if let [Host::Unix(folder)] = config.get_hosts() {
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let socket = UnixStream::connect(folder.join(format!(".s.PGSQL.{port}"))).await;
        let socket = socket.map_err(|error| ConnectionError::BadConnection(error.to_string()))?;
        let tap = Tap::new(socket, last.clone());
        let (client, connection) = config.connect_raw(tap, NoTls).await.map_err(bad)?;
        // It ends with the client, which is told of its errors.
        tokio::spawn(connection);
        return AsyncPgConnection::try_from(client).await;
    }
    let tapping = Tapping {
        last: last.clone(),
        secured: endpoint.secured()?,
        is_direct: config.get_ssl_negotiation() == SslNegotiation::Direct,
    };
    // The stream is handed over at once, without asking the server for TLS first: the tap does that.
    config
        .ssl_mode(SslMode::Require)
        .ssl_negotiation(SslNegotiation::Direct);
    let connecting = config.connect(tapping);
    let (client, connection) = connecting.await.map_err(bad)?;
    AsyncPgConnection::try_from_client_and_connection(client, connection).await
}

impl Explain for AsyncPgConnection {
    async fn explain(&mut self, error: diesel::result::Error) -> StoreError {
        let last = self.instrumentation().downcast_ref::<LastSqlState>();
        let sqlstate = last.and_then(LastSqlState::take).unwrap_or_default();
        known(error).unwrap_or_else(|info| Meaning::of_postgres(&sqlstate).error(info.message()))
    }
}

async fn begin(connection: &mut AsyncPgConnection, mode: Mode) -> QueryResult<()> {
    session::begin(connection).await?;
    if mode == Mode::Snapshot
        && let Err(error) = connection.batch_execute(SNAPSHOT).await
    {
        session::rollback(connection).await?;
        return Err(error);
    }
    Ok(())
}

session!(AsyncPgConnection, begin);

impl Migrate for AsyncPgConnection {
    const SCRIPTS: &'static [Script] = &scripts!("postgres");
    const OWN_TABLES: [&'static str; 2] = [
        "CREATE TABLE IF NOT EXISTS likewise_schema_migrations (\
            name TEXT COLLATE \"C\" NOT NULL PRIMARY KEY, run_on TIMESTAMP(6) NOT NULL)",
        "CREATE TABLE IF NOT EXISTS likewise_schema_lease (\
            name TEXT COLLATE \"C\" NOT NULL PRIMARY KEY, holder TEXT NOT NULL, \
            epoch BIGINT NOT NULL, expires_at TIMESTAMP(6) NOT NULL)",
    ];
    const TRANSACTIONAL: bool = true;

    async fn connect(endpoint: &Endpoint) -> Result<Self, StoreError> {
        Ok(establish_with(endpoint, MIGRATING).await?)
    }
}
