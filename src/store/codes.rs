//! Classifies the error codes of databases: errno and SQLSTATE of MySQL, SQLSTATE of PostgreSQL, result codes of SQLite. The
//! code decides and never the message, which servers translate and triggers choose freely.
//!
//! Diesel's errors carry no code, so each driver file implements [`Explain`], which obtains it.

use diesel::result::{DatabaseErrorInformation, DatabaseErrorKind, Error as DieselError};
use diesel::{ConnectionError, QueryResult};

use super::error::StoreError;

/// Classifies an error of Diesel on the connection that returned it.
pub(super) trait Explain {
    /// Classifies the error by the database's code. Nothing else may have run on the connection since.
    fn explain(&mut self, error: DieselError) -> impl Future<Output = StoreError> + Send;
}

/// Returns the result of a call on a connection, with its error classified.
pub(super) async fn explained<T>(
    connection: &mut impl Explain,
    done: QueryResult<T>,
) -> Result<T, StoreError> {
    match done {
        Ok(done) => Ok(done),
        Err(error) => Err(connection.explain(error).await),
    }
}

/// The meaning of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A lock, a deadlock or a time-out: another attempt at the whole transaction may succeed.
    Busy,
    /// The server accepts no writes.
    ReadOnly,
    /// The connection or the server is gone.
    Unavailable,
    /// The database is full, broken, partly migrated, lacks permissions, or requires a column that Likewise does not
    /// write.
    Unusable,
    /// The data can never be stored.
    Invalid,
    /// Anything else, such as a trigger of the product.
    Unknown,
}

impl Meaning {
    /// Returns the error with this meaning.
    pub(super) fn error(self, message: &str) -> StoreError {
        let message = message.to_owned();
        match self {
            Self::Busy => StoreError::Busy(message),
            Self::ReadOnly => StoreError::ReadOnly(message),
            Self::Unavailable => StoreError::Unavailable(message),
            Self::Unusable => StoreError::Unusable(message),
            Self::Invalid => StoreError::Refused(message),
            Self::Unknown => StoreError::Failed(message),
        }
    }

    /// Classifies an errno of MySQL or MariaDB and its SQLSTATE.
    pub(super) fn of_mysql(errno: u16, sqlstate: &str) -> Self {
        match errno {
            // Lock wait time-outs, deadlock, record changed, statement time-outs, interrupted, NOWAIT.
            1205 | 1206 | 1213 | 1020 | 1317 | 1637 | 1969 | 3024 | 3572 => Self::Busy,
            // --read-only, a read-only transaction, --innodb-read-only, forced recovery, a read-only schema.
            1290 | 1792 | 1836 | 1874 | 1881 | 3989 => Self::ReadOnly,
            // Too many connections, shutdown, killed, network, access denied at the door.
            1040
            | 1044
            | 1045
            | 1047
            | 1049
            | 1053
            | 1129
            | 1130
            | 1158..=1161
            | 1184
            | 1203
            | 1226
            | 1927 => Self::Unavailable,
            // Disk full, storage errors, out of memory, a table that is crashed, read-only or full.
            1015..=1017
            | 1021
            | 1026
            | 1030
            | 1034..=1038
            | 1041
            | 1114
            | 1180
            | 1194
            | 1195
            | 1412
            | 1461
            | 1615
            | 1877
            | 1878
            | 1932 => Self::Unusable,
            // A column without a value. No value of an event is NULL, so it is one that Likewise does not write.
            1048 | 1263 | 1364 | 1423 => Self::Unusable,
            // A view in the place of a table, a view or trigger without its definer, no next number, the format of the binary
            // log, a plugin for replication.
            1288 | 1356 | 1449 | 1467 | 1471 | 1598 | 1661..=1666 | 3098 | 3100 => Self::Unusable,
            // A trigger's query that finds several rows. Its class is that of syntax errors.
            1172 => Self::Unknown,
            // Too long, out of range, truncated, incorrect, CHECK.
            1264 | 1265 | 1292 | 1366 | 1406 | 3819 | 4025 => Self::Invalid,
            _ => Self::of_class(sqlstate),
        }
    }

    /// Classifies a SQLSTATE of PostgreSQL.
    pub(super) fn of_postgres(sqlstate: &str) -> Self {
        match sqlstate {
            // Lock not available, object in use, statement cancelled or timed out.
            "55P03" | "55006" | "57014" => Self::Busy,
            "25006" => Self::ReadOnly,
            // Too many connections; a session that the server ended, because its transaction was idle or took too long; a
            // prepared statement that a pooler has lost.
            "53300" | "25P03" | "25P04" | "26000" => Self::Unavailable,
            // A cached plan that no longer fits the table; no next number; a column without a value, which Likewise does not
            // write, because no value of an event is NULL; corrupted data.
            "0A000" | "2200H" | "23502" | "XX001" | "XX002" => Self::Unusable,
            _ => Self::of_class(sqlstate),
        }
    }

    /// Classifies by the class of SQLSTATE, which MySQL and PostgreSQL share.
    fn of_class(sqlstate: &str) -> Self {
        match sqlstate.get(..2) {
            Some("40") => Self::Busy,
            // Connection; operator intervention, such as a shutdown.
            Some("08" | "57") => Self::Unavailable,
            // Resources; system error; no such database, schema, table, column or permission; the state of a transaction or an
            // object. The text of the statements is fixed, so an event never causes an error in it.
            Some("53" | "58" | "28" | "3D" | "3F" | "42" | "25" | "55") => Self::Unusable,
            Some("22" | "23") => Self::Invalid,
            _ => Self::Unknown,
        }
    }

    /// Classifies a result code of SQLite. Diesel passes on its text instead of the code. SQLite has one fixed text for each
    /// of these codes (`sqlite3_errstr`), and the library is compiled in, so this compares whole texts.
    pub(super) fn of_sqlite(text: &str) -> Self {
        match text {
            "database is locked"
            | "database table is locked"
            | "locking protocol"
            | "interrupted" => Self::Busy,
            "attempt to write a readonly database" => Self::ReadOnly,
            "database or disk is full"
            | "disk I/O error"
            | "database disk image is malformed"
            | "unable to open database file"
            | "file is not a database"
            | "out of memory"
            | "database schema has changed" => Self::Unusable,
            "string or blob too big" | "datatype mismatch" => Self::Invalid,
            _ => Self::Unknown,
        }
    }
}

/// Classifies an error whose kind Diesel knows. Otherwise returns the error's information, and the caller obtains its code.
pub(super) fn known(
    error: DieselError,
) -> Result<StoreError, Box<dyn DatabaseErrorInformation + Send + Sync>> {
    let (kind, info) = match error {
        DieselError::DatabaseError(kind, info) => (kind, info),
        DieselError::DeserializationError(reason) => {
            return Ok(StoreError::Unreadable {
                table: "the answer",
                reason: reason.to_string(),
            });
        }
        DieselError::SerializationError(reason) => {
            return Ok(StoreError::Refused(reason.to_string()));
        }
        error => return Ok(StoreError::Unavailable(error.to_string())),
    };
    let meaning = match kind {
        DatabaseErrorKind::SerializationFailure => Meaning::Busy,
        DatabaseErrorKind::ReadOnlyTransaction => Meaning::ReadOnly,
        DatabaseErrorKind::ClosedConnection | DatabaseErrorKind::UnableToSendCommand => {
            Meaning::Unavailable
        }
        // A column that Likewise does not write.
        DatabaseErrorKind::NotNullViolation => Meaning::Unusable,
        DatabaseErrorKind::UniqueViolation
        | DatabaseErrorKind::ForeignKeyViolation
        | DatabaseErrorKind::CheckViolation
        | DatabaseErrorKind::RestrictViolation
        | DatabaseErrorKind::ExclusionViolation => Meaning::Invalid,
        _ => return Err(info),
    };
    Ok(meaning.error(info.message()))
}

impl From<ConnectionError> for StoreError {
    /// Distinguishes a wrong URL or wrong credentials from an unreachable server. While connecting, the drivers give no code,
    /// so the server's message decides.
    fn from(error: ConnectionError) -> Self {
        const REFUSALS: [&str; 7] = [
            "access denied",
            "unknown database",
            "password authentication failed",
            "no pg_hba.conf entry",
            "invalid connection string",
            "invalid configuration",
            "does not exist",
        ];
        let text = match &error {
            ConnectionError::InvalidCString(_) | ConnectionError::InvalidConnectionUrl(_) => {
                return StoreError::Misconfigured(error.to_string());
            }
            ConnectionError::CouldntSetupConfiguration(DieselError::DatabaseError(_, info)) => {
                info.message().to_owned()
            }
            error => error.to_string(),
        };
        let lower = text.to_lowercase();
        if REFUSALS.iter().any(|refusal| lower.contains(refusal)) {
            return StoreError::Misconfigured(text);
        }
        let error = match error {
            ConnectionError::CouldntSetupConfiguration(error) => {
                known(error).unwrap_or_else(|info| Meaning::of_sqlite(info.message()).error(&text))
            }
            _ => return StoreError::Unavailable(text),
        };
        match error {
            busy @ StoreError::Busy(_) => busy,
            error if !error.was_answered() => error,
            _ => StoreError::Unavailable(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::FailureKind;

    fn kind(meaning: Meaning) -> FailureKind {
        meaning.error("a message").kind()
    }

    #[test]
    fn infrastructure_codes_never_count_against_an_event() {
        let mysql = [
            (1021, "HY000"), // disk full
            (1036, "HY000"), // read-only table
            (1040, "08004"), // too many connections
            (1048, "23000"), // NULL in a column that is not written
            (1053, "08S01"), // shutdown
            (1142, "42000"), // permission denied
            (1146, "42S02"), // no such table
            (1205, "HY000"), // lock wait time-out
            (1213, "40001"), // deadlock
            (1290, "HY000"), // --read-only
            (1356, "HY000"), // a view over a missing table
            (1364, "HY000"), // no default of a column that is not written
            (1449, "HY000"), // a trigger without its definer
            (1467, "HY000"), // no next number
            (1665, "HY000"), // the format of the binary log
            (1792, "25006"), // read-only transaction
            (1836, "HY000"), // --innodb-read-only
            (1874, "HY000"), // InnoDB is read-only
            (1881, "HY000"), // forced recovery
            (1969, "70100"), // statement time-out of MariaDB
            (3024, "HY000"), // statement time-out of MySQL
            (3100, "HY000"), // a plugin for replication
            (3989, "HY000"), // read-only schema
        ];
        for (errno, sqlstate) in mysql {
            let found = kind(Meaning::of_mysql(errno, sqlstate));
            assert_eq!(found, FailureKind::Infrastructure, "{errno}");
        }
        let postgres = [
            "2200H", // no next number
            "23502", // NULL in a column that is not written
            "25006", // read-only transaction
            "25P04", // transaction time-out
            "40001", // serialization failure
            "40P01", // deadlock
            "42501", // permission denied
            "42P01", // no such table
            "53100", // disk full
            "53300", // too many connections
            "55000", // state of an object
            "55P03", // lock not available
            "57014", // statement time-out
            "57P01", // shutdown
            "08006", // connection failure
        ];
        for sqlstate in postgres {
            let found = kind(Meaning::of_postgres(sqlstate));
            assert_eq!(found, FailureKind::Infrastructure, "{sqlstate}");
        }
    }

    #[test]
    fn only_constraints_on_values_of_an_event_are_invalid() {
        let kind_of = |kind| {
            let message = Box::new("a message".to_owned());
            let error = known(DieselError::DatabaseError(kind, message));
            error.expect("a known kind").kind()
        };
        let missing = kind_of(DatabaseErrorKind::NotNullViolation);
        assert_eq!(missing, FailureKind::Infrastructure);
        for kind in [
            DatabaseErrorKind::UniqueViolation,
            DatabaseErrorKind::ForeignKeyViolation,
            DatabaseErrorKind::CheckViolation,
        ] {
            assert_eq!(kind_of(kind), FailureKind::Invalid);
        }
    }

    #[test]
    fn data_and_constraint_codes_are_invalid() {
        for (errno, sqlstate) in [
            (1406, "22001"),
            (1264, "22003"),
            (1062, "23000"),
            (4025, "23000"),
        ] {
            let found = kind(Meaning::of_mysql(errno, sqlstate));
            assert_eq!(found, FailureKind::Invalid, "{errno}");
        }
        for sqlstate in ["22001", "22003", "23505", "23514"] {
            let found = kind(Meaning::of_postgres(sqlstate));
            assert_eq!(found, FailureKind::Invalid, "{sqlstate}");
        }
    }

    #[test]
    fn unknown_codes_and_triggers_count_as_rejections() {
        assert_eq!(
            kind(Meaning::of_mysql(1644, "45000")),
            FailureKind::Rejected
        );
        assert_eq!(
            kind(Meaning::of_mysql(65_000, "ZZ000")),
            FailureKind::Rejected
        );
        assert_eq!(
            kind(Meaning::of_mysql(1172, "42000")),
            FailureKind::Rejected
        );
        for sqlstate in ["P0001", "XX000", "ZZ000", ""] {
            let found = kind(Meaning::of_postgres(sqlstate));
            assert_eq!(found, FailureKind::Rejected, "{sqlstate}");
        }
        assert_eq!(
            kind(Meaning::of_sqlite("no likes today")),
            FailureKind::Rejected
        );
    }
}
