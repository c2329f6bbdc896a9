//! What can go wrong with the database, and whether trying again may mend it.

use crate::domain::FailureKind;

/// Why the database did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
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
    /// It accepts no writes: it is a replica, or was made read-only.
    #[error("the database is read-only: {0}")]
    ReadOnly(String),
    /// It is there, but full, broken, half migrated or without permissions.
    #[error("the database is not in working order: {0}")]
    Unusable(String),
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
    /// What it says about the event that met it.
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

    /// Whether it is news: that the database is away has been said when it went.
    #[must_use]
    pub const fn is_news(&self) -> bool {
        !matches!(self, Self::Away | Self::NotReady(_))
    }

    /// Whether it shows that the database can be worked with. One that is read-only cannot.
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

    /// Whether the connection that met it is not to be used again. A new one has fresh statements, and may
    /// reach another server.
    #[must_use]
    pub(super) const fn ends_connection(&self) -> bool {
        matches!(
            self,
            Self::Unavailable(_) | Self::TimedOut(_) | Self::ReadOnly(_) | Self::Unusable(_)
        )
    }

    /// Whether it may be the error of one row of a batch, without which the others would go through.
    #[must_use]
    pub const fn may_be_of_one_row(&self) -> bool {
        !matches!(self.kind(), FailureKind::Infrastructure)
    }
}
