//! What can go wrong with the database, and whether trying again may mend it.

use diesel::ConnectionError;
use diesel::result::{DatabaseErrorKind, Error as DieselError};

use crate::domain::FailureKind;

/// Why the database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL names no database that Likewise runs on.
    #[error(
        "no database of kind '{0}': LIKEWISE_DATABASE_URL must start with sqlite://, mysql:// or postgres://"
    )]
    Url(String),
    /// It could not be reached, or dropped the connection.
    #[error("the database cannot be reached: {0}")]
    Unavailable(String),
    /// It could not be reached or did not answer several times in a row, and is left alone for a moment.
    #[error("the database is away, and is left alone for a moment")]
    Away,
    /// It did not answer in time.
    #[error("the database did not answer within {0:?}")]
    TimedOut(std::time::Duration),
    /// It was too busy, or chose this transaction to end a deadlock.
    #[error("the database was busy: {0}")]
    Busy(String),
    /// It answered with an error that may be this data's, or may pass.
    #[error("the database answered with an error: {0}")]
    Failed(String),
    /// It refused this very data.
    #[error("the database refused the data: {0}")]
    Refused(String),
    /// A row cannot be read as what it should be.
    #[error("a row of {table} cannot be read: {reason}")]
    Unreadable {
        /// The table.
        table: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The tables could not be brought up to date.
    #[error(
        "the tables could not be brought up to date: {0}; mend the cause and start again: what has been \
         migrated stays, and the rest follows"
    )]
    Migration(String),
    /// The URL, the credentials or the server are wrong: waiting changes nothing.
    #[error("the database refuses the connection: {0}; check LIKEWISE_DATABASE_URL")]
    Misconfigured(String),
    /// The process does not use the database yet.
    #[error("the database is not in use yet: {0}")]
    NotReady(String),
}

impl StoreError {
    /// Whether another attempt may mend it.
    #[must_use]
    pub const fn kind(&self) -> FailureKind {
        match self {
            Self::Refused(_) | Self::Unreadable { .. } | Self::Url(_) | Self::Misconfigured(_) => {
                FailureKind::Permanent
            }
            Self::Unavailable(_)
            | Self::Away
            | Self::TimedOut(_)
            | Self::Busy(_)
            | Self::Failed(_)
            | Self::NotReady(_)
            | Self::Migration(_) => FailureKind::Transient,
        }
    }

    /// Whether it is news: that the database is away has been said when it went.
    #[must_use]
    pub const fn is_news(&self) -> bool {
        !matches!(self, Self::Away | Self::NotReady(_))
    }

    /// Whether it shows that the database can be spoken to.
    #[must_use]
    pub const fn was_answered(&self) -> bool {
        !matches!(
            self,
            Self::Unavailable(_) | Self::TimedOut(_) | Self::Away | Self::NotReady(_)
        )
    }

    /// Whether it may be the error of one row of a batch, without which the others would go through: a
    /// trigger of the product's own, say, refuses in words that nobody knows.
    #[must_use]
    pub const fn may_be_of_one_row(&self) -> bool {
        matches!(self, Self::Failed(_)) || matches!(self.kind(), FailureKind::Permanent)
    }
}

impl From<DieselError> for StoreError {
    fn from(error: DieselError) -> Self {
        match &error {
            DieselError::DatabaseError(kind, info) => match kind {
                DatabaseErrorKind::SerializationFailure => Self::Busy(info.message().to_owned()),
                DatabaseErrorKind::ClosedConnection
                | DatabaseErrorKind::UnableToSendCommand
                | DatabaseErrorKind::ReadOnlyTransaction => {
                    Self::Unavailable(info.message().to_owned())
                }
                DatabaseErrorKind::UniqueViolation
                | DatabaseErrorKind::ForeignKeyViolation
                | DatabaseErrorKind::NotNullViolation
                | DatabaseErrorKind::CheckViolation => Self::Refused(info.message().to_owned()),
                _ => Self::from_message(info.message()),
            },
            DieselError::DeserializationError(reason) => Self::Unreadable {
                table: "the answer",
                reason: reason.to_string(),
            },
            DieselError::SerializationError(reason) => Self::Refused(reason.to_string()),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<ConnectionError> for StoreError {
    /// Tells a wrong URL or wrong credentials from a server that cannot be reached. The drivers give no code
    /// while a connection is made, so the server's words decide.
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
                return Self::Misconfigured(error.to_string());
            }
            ConnectionError::CouldntSetupConfiguration(DieselError::DatabaseError(_, info)) => {
                info.message().to_owned()
            }
            error => error.to_string(),
        };
        let lower = text.to_lowercase();
        if REFUSALS.iter().any(|refusal| lower.contains(refusal)) {
            return Self::Misconfigured(text);
        }
        match error {
            ConnectionError::CouldntSetupConfiguration(error) => match Self::from(error) {
                busy @ Self::Busy(_) => busy,
                error if !error.was_answered() => error,
                _ => Self::Unavailable(text),
            },
            _ => Self::Unavailable(text),
        }
    }
}

impl StoreError {
    /// What the drivers leave unsorted: only the text tells.
    fn from_message(message: &str) -> Self {
        const CROWDS: [&str; 5] = ["locked", "busy", "deadlock", "lock wait", "lock timeout"];
        const REFUSALS: [&str; 8] = [
            "too long",
            "out of range",
            "constraint",
            "cannot be null",
            "datatype mismatch",
            "incorrect",
            "invalid input",
            "unsupported unicode",
        ];
        const ABSENCES: [&str; 8] = [
            "input/output error",
            "driver error",
            "connection",
            "terminating",
            "shutdown",
            "shutting down",
            "starting up",
            "gone away",
        ];
        let lower = message.to_lowercase();
        if CROWDS.iter().any(|crowd| lower.contains(crowd)) {
            return Self::Busy(message.to_owned());
        }
        if REFUSALS.iter().any(|refusal| lower.contains(refusal)) {
            return Self::Refused(message.to_owned());
        }
        if ABSENCES.iter().any(|absence| lower.contains(absence)) {
            return Self::Unavailable(message.to_owned());
        }
        Self::Failed(message.to_owned())
    }
}
