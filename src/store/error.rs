//! The errors of the database, and whether another attempt may succeed.

use crate::domain::FailureKind;

/// A failed call of the database.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Likewise does not support the database of the URL.
    #[error(
        "no database of kind '{0}': LIKEWISE_DATABASE_URL must start with sqlite://, mysql:// or postgres://"
    )]
    Url(String),
    /// The database is unreachable, or closed the connection.
    #[error("the database cannot be reached: {0}")]
    Unavailable(String),
    /// The circuit breaker is open after several failures in a row.
    #[error("the database is away, and is left alone for a moment")]
    Away,
    /// The database did not answer in time.
    #[error("the database did not answer within {0:?}")]
    TimedOut(std::time::Duration),
    /// A lock, a deadlock, a load limit or a concurrent insert ended the transaction.
    #[error("the database was busy: {0}")]
    Busy(String),
    /// The database accepts no writes, for example as a replica.
    #[error("the database is read-only: {0}")]
    ReadOnly(String),
    /// The database is full, broken, partly migrated, lacks permissions, or requires a column that Likewise does not
    /// write.
    #[error("the database is not in working order: {0}")]
    Unusable(String),
    /// The database returned an unknown error. The data may have caused it, or another attempt may succeed.
    #[error("the database answered with an error: {0}")]
    Failed(String),
    /// The database refused the data.
    #[error("the database refused the data: {0}")]
    Refused(String),
    /// A row cannot be parsed.
    #[error("a row of {table} cannot be read: {reason}")]
    Unreadable {
        /// The table.
        table: &'static str,
        /// The reason.
        reason: String,
    },
    /// A migration failed, or the tables lack one.
    #[error(
        "the tables could not be brought up to date: {0}; mend the cause and start again: what has been \
         migrated stays, and the rest follows"
    )]
    Migration(String),
    /// The URL, the credentials or the server are wrong, so waiting does not help.
    #[error("the database refuses the connection: {0}; check LIKEWISE_DATABASE_URL")]
    Misconfigured(String),
    /// The gate is still closed.
    #[error("the database is not in use yet: {0}")]
    NotReady(String),
}

impl StoreError {
    /// Returns what the error means for the event that caused it.
    #[must_use]
    pub const fn kind(&self) -> FailureKind {
        match self {
            Self::Refused(_) | Self::Unreadable { .. } | Self::Url(_) | Self::Misconfigured(_) => {
                FailureKind::Invalid
            }
            Self::Failed(_) => FailureKind::Rejected,
            Self::Unavailable(_)
            | Self::Away
            | Self::TimedOut(_)
            | Self::Busy(_)
            | Self::ReadOnly(_)
            | Self::Unusable(_)
            | Self::NotReady(_)
            | Self::Migration(_) => FailureKind::Infrastructure,
        }
    }

    /// Returns whether to report it. The open breaker and the closed gate were reported before.
    #[must_use]
    pub const fn is_news(&self) -> bool {
        !matches!(self, Self::Away | Self::NotReady(_))
    }

    /// Returns whether the database answered and can be used. A read-only database cannot.
    #[must_use]
    pub const fn was_answered(&self) -> bool {
        !matches!(
            self,
            Self::Unavailable(_)
                | Self::TimedOut(_)
                | Self::ReadOnly(_)
                | Self::Away
                | Self::NotReady(_)
        )
    }

    /// Returns whether the connection must not be used again. A new one prepares its statements again, and may reach another
    /// server.
    #[must_use]
    pub(super) const fn ends_connection(&self) -> bool {
        matches!(
            self,
            Self::Unavailable(_) | Self::TimedOut(_) | Self::ReadOnly(_) | Self::Unusable(_)
        )
    }

    /// Returns whether one row of a batch may have caused it, so that the other rows would succeed without it.
    #[must_use]
    pub const fn may_be_of_one_row(&self) -> bool {
        !matches!(self.kind(), FailureKind::Infrastructure)
    }
}
