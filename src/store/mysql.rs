//! MySQL 8 and MariaDB 10.6, or newer.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use diesel::prelude::QueryableByName;
use diesel::sql_types::{BigInt, Text};
use diesel::{ConnectionError, QueryResult, sql_query};
use diesel_async::{AsyncMysqlConnection, RunQueryDsl, SimpleAsyncConnection};
use mysql_async::{
    ClientIdentity, Conn, DriverError, Error as MysqlError, Opts, OptsBuilder, SslOpts,
};
use rustls::pki_types::CertificateDer;

use super::codes::{Explain, Meaning, known};
use super::connections::SessionLimits;
use super::endpoint::{Endpoint, Secured};
use super::error::StoreError;
use super::migrate::{Migrate, Script, scripts};
use super::session::{self, Mode, session};
use crate::config::TlsMode;

/// A migration waits for the locks of running transactions without a time limit.
const MIGRATING: [&str; 2] = [
    "SET SESSION lock_wait_timeout = 31536000",
    "SET SESSION innodb_lock_wait_timeout = 31536000",
];

/// Makes the next transaction read from one snapshot.
const SNAPSHOT: &str = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY";

/// Connects.
pub(super) async fn establish(
    endpoint: Arc<Endpoint>,
    limits: SessionLimits,
) -> Result<AsyncMysqlConnection, ConnectionError> {
    let seconds = limits.lock_wait.as_secs();
    // READ COMMITTED takes no gap locks, so workers that write neighbouring rows do not block each other. Strict mode
    // refuses values that the server would otherwise truncate. The server keeps errors, so that `explain` can read
    // their codes. MySQL limits only idle sessions. MariaDB also limits idle transactions, in a comment that MySQL skips.
    let session = [
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
        "SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')",
        "SET SESSION max_error_count = 64",
        &format!("SET SESSION innodb_lock_wait_timeout = {seconds}"),
        &format!("SET SESSION lock_wait_timeout = {seconds}"),
        &format!(
            "SET SESSION wait_timeout = {} /*M! , SESSION idle_transaction_timeout = {} */",
            limits.idle.as_secs(),
            limits.idle_in_transaction.as_secs()
        ),
    ];
    establish_with(&endpoint, &session).await
}

async fn establish_with(
    endpoint: &Endpoint,
    session: &[&str],
) -> Result<AsyncMysqlConnection, ConnectionError> {
    let mut connection = AsyncMysqlConnection::try_from(connect(endpoint).await?).await?;
    for statement in session {
        connection
            .batch_execute(statement)
            .await
            .map_err(ConnectionError::CouldntSetupConfiguration)?;
    }
    Ok(connection)
}

async fn connect(endpoint: &Endpoint) -> Result<Conn, ConnectionError> {
    let refused = |error: &mysql_async::Error| endpoint.refusal(error, &error.to_string());
    let Some(secured) = endpoint.secured()? else {
        return Conn::new(options(&endpoint.url, None)?)
            .await
            .map_err(|error| refused(&error));
    };
    let opts = match secured.mysql.get() {
        Some(opts) => opts.clone(),
        None => {
            let opts = options(&endpoint.url, Some(ssl(&secured)))?;
            secured.mysql.get_or_init(|| opts).clone()
        }
    };
    match Conn::new(opts).await {
        Err(MysqlError::Driver(DriverError::NoClientSslFlagFromServer)) => {
            if secured.mode > TlsMode::Prefer {
                return Err(endpoint.without_tls());
            }
            Conn::new(options(&endpoint.url, None)?)
                .await
                .map_err(|error| refused(&error))
        }
        connected => connected.map_err(|error| refused(&error)),
    }
}

/// The options of a connection, as diesel-async has them where it connects itself.
fn options(url: &str, ssl: Option<SslOpts>) -> Result<Opts, ConnectionError> {
    let opts = Opts::from_url(url)
        .map_err(|error| ConnectionError::InvalidConnectionUrl(error.to_string()))?;
    let builder = OptsBuilder::from_opts(opts);
    let builder = match ssl {
        // The driver would move to the Unix socket of a server on this machine.
        Some(_) => builder.prefer_socket(false),
        None => builder,
    };
    Ok(builder
        .ssl_opts(ssl)
        .stmt_cache_size(0)
        .client_found_rows(true)
        .into())
}

/// The name that the driver checks instead of the host's where only the authority counts. The driver skips the name if
/// the error that it gets contains the words `NotValidForName`. The errors of rustls 0.23 do not contain them any more,
/// but they quote the name that was checked. Without the words, the connection would be refused.
const ANY_NAME: &str = "NotValidForName.invalid";

fn ssl(secured: &Secured) -> SslOpts {
    let opts =
        SslOpts::default().with_client_identity(secured.identity.as_ref().map(|(chain, key)| {
            ClientIdentity::new(pem(chain).into(), key.secret_der().to_vec().into())
        }));
    match secured.mode {
        TlsMode::Disable | TlsMode::Prefer | TlsMode::Require => opts
            .with_danger_accept_invalid_certs(true)
            .with_danger_skip_domain_validation(true),
        TlsMode::VerifyCa => authorities(opts, secured)
            .with_danger_skip_domain_validation(true)
            .with_danger_tls_hostname_override(Some(ANY_NAME)),
        TlsMode::VerifyFull => authorities(opts, secured),
    }
}

fn authorities(opts: SslOpts, secured: &Secured) -> SslOpts {
    opts.with_disable_built_in_roots(true)
        .with_root_certs(vec![pem(&secured.authorities).into()])
}

/// Certificates in PEM, which is how the driver takes several at once.
fn pem(certificates: &[CertificateDer<'static>]) -> Vec<u8> {
    let mut text = String::new();
    for certificate in certificates {
        let encoded = BASE64.encode(certificate);
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        for line in encoded.as_bytes().chunks(64) {
            text.push_str(&String::from_utf8_lossy(line));
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text.into_bytes()
}

/// A condition that the last statement on a connection raised.
#[derive(Debug, QueryableByName)]
struct Diagnostic {
    #[diesel(sql_type = BigInt)]
    errno: i64,
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = Text)]
    text: String,
}

/// The number of conditions to read. Few statements raise more than two.
const CONDITIONS: usize = 8;

/// Reads the conditions that the last statement raised: the error, and warnings and notes before and after it.
async fn conditions(connection: &mut AsyncMysqlConnection) -> QueryResult<Vec<Diagnostic>> {
    let mut selects = Vec::new();
    for n in 1..=CONDITIONS {
        let get = format!(
            "GET DIAGNOSTICS CONDITION {n} @likewise_errno_{n} = MYSQL_ERRNO, \
             @likewise_state_{n} = RETURNED_SQLSTATE, @likewise_text_{n} = MESSAGE_TEXT"
        );
        // Fails after the last condition.
        if connection.batch_execute(&get).await.is_err() {
            break;
        }
        selects.push(format!(
            "SELECT CAST(COALESCE(@likewise_errno_{n}, 0) AS SIGNED) AS errno, \
             CAST(COALESCE(@likewise_state_{n}, '') AS CHAR) AS state, \
             CAST(COALESCE(@likewise_text_{n}, '') AS CHAR) AS text"
        ));
    }
    // Fails if the connection is gone.
    connection.batch_execute("DO 0").await?;
    let mut found = Vec::new();
    for select in selects {
        found.push(RunQueryDsl::get_result(sql_query(select), connection).await?);
    }
    Ok(found)
}

impl Explain for AsyncMysqlConnection {
    async fn explain(&mut self, error: diesel::result::Error) -> StoreError {
        let info = match known(error) {
            Ok(error) => return error,
            Err(info) => info,
        };
        let message = info.message();
        let meaning = match conditions(self).await {
            // MariaDB keeps no condition of a statement that it cannot prepare. The text of statements is fixed, so
            // the event did not cause the error.
            Ok(conditions) if conditions.is_empty() => Meaning::Unusable,
            Ok(conditions) => {
                // The text identifies the error among the conditions, and its code gives the meaning.
                let is_it = |one: &&Diagnostic| message.starts_with(&one.text);
                let it = conditions.iter().find(is_it).or(conditions.last());
                it.map_or(Meaning::Unknown, |it| {
                    let errno = u16::try_from(it.errno).unwrap_or_default();
                    Meaning::of_mysql(errno, &it.state)
                })
            }
            // The driver raised the error itself, or the connection is gone.
            Err(_) => Meaning::Unavailable,
        };
        meaning.error(message)
    }
}

async fn begin(connection: &mut AsyncMysqlConnection, mode: Mode) -> QueryResult<()> {
    if mode == Mode::Snapshot {
        // It applies to the next transaction.
        connection.batch_execute(SNAPSHOT).await?;
    }
    session::begin(connection).await
}

session!(AsyncMysqlConnection, begin);

impl Migrate for AsyncMysqlConnection {
    const SCRIPTS: &'static [Script] = &scripts!("mysql");
    const OWN_TABLES: [&'static str; 2] = [
        "CREATE TABLE IF NOT EXISTS likewise_schema_migrations (\
            name VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY, \
            run_on DATETIME(6) NOT NULL) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4",
        "CREATE TABLE IF NOT EXISTS likewise_schema_lease (\
            name VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY, \
            holder VARCHAR(255) NOT NULL, epoch BIGINT NOT NULL, expires_at DATETIME(6) NOT NULL\
            ) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4",
    ];
    // MySQL commits each statement that defines a table. A process may be killed between a migration and the note that
    // it ran, so every migration must accept its own results.
    const TRANSACTIONAL: bool = false;

    async fn connect(endpoint: &Endpoint) -> Result<Self, StoreError> {
        Ok(establish_with(endpoint, &MIGRATING).await?)
    }
}
