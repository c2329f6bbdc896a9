//! Times as the columns hold them, in UTC without a zone, read into fields of type `DateTime<Utc>`.

use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql, FromSqlRow};

/// Reads a `Timestamp`: `#[diesel(sql_type = Timestamp, deserialize_as = InUtc<NaiveDateTime>)]`; or a nullable
/// one, with `InUtc<Option<NaiveDateTime>>`.
#[derive(Debug, FromSqlRow)]
pub(super) struct InUtc<T>(T);

impl<T, ST, DB> FromSql<ST, DB> for InUtc<T>
where
    T: FromSql<ST, DB>,
    DB: Backend,
{
    fn from_sql(bytes: DB::RawValue<'_>) -> deserialize::Result<Self> {
        T::from_sql(bytes).map(Self)
    }

    fn from_nullable_sql(bytes: Option<DB::RawValue<'_>>) -> deserialize::Result<Self> {
        T::from_nullable_sql(bytes).map(Self)
    }
}

impl From<InUtc<NaiveDateTime>> for DateTime<Utc> {
    fn from(time: InUtc<NaiveDateTime>) -> Self {
        time.0.and_utc()
    }
}

impl From<InUtc<Option<NaiveDateTime>>> for Option<DateTime<Utc>> {
    fn from(time: InUtc<Option<NaiveDateTime>>) -> Self {
        time.0.map(|time| time.and_utc())
    }
}
