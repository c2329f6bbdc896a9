//! Ids in the database: columns of numbers, UUIDs or text, chosen before the first migration. They are bound as numbers
//! or text, and read by the type of the column.

use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql, Queryable};
use diesel::mysql::{Mysql, MysqlType, MysqlValue};
use diesel::pg::{Pg, PgValue};
use diesel::sql_types::{BigInt, SqlType, Text};
use diesel::sqlite::{Sqlite, SqliteType};
use uuid::Uuid;

use super::statement::Param;
use crate::domain::Id;

/// The SQL type of a column of ids, whichever its kind.
#[derive(Debug, Clone, Copy, Default, SqlType)]
#[diesel(
    mysql_type(name = "String"),
    sqlite_type(name = "Text"),
    postgres_type(name = "text")
)]
pub(super) struct AnyId;

impl<DB> Queryable<AnyId, DB> for Id
where
    DB: Backend,
    Self: FromSql<AnyId, DB>,
{
    type Row = Self;

    fn build(row: Self) -> deserialize::Result<Self> {
        Ok(row)
    }
}

fn text<DB: Backend>(value: DB::RawValue<'_>) -> deserialize::Result<Id>
where
    String: FromSql<Text, DB>,
{
    Ok(Id::from(&*String::from_sql(value)?))
}

impl FromSql<AnyId, Sqlite> for Id {
    fn from_sql(value: <Sqlite as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
        match value.value_type() {
            Some(SqliteType::Long) => {
                <i64 as FromSql<BigInt, Sqlite>>::from_sql(value).map(Self::Number)
            }
            _ => text::<Sqlite>(value),
        }
    }
}

impl FromSql<AnyId, Mysql> for Id {
    fn from_sql(value: MysqlValue<'_>) -> deserialize::Result<Self> {
        match value.value_type() {
            MysqlType::LongLong => {
                <i64 as FromSql<BigInt, Mysql>>::from_sql(value).map(Self::Number)
            }
            _ => text::<Mysql>(value),
        }
    }
}

/// The object ids of PostgreSQL's types `bigint` and `uuid`.
const BIGINT: u32 = 20;
const UUID: u32 = 2_950;

impl FromSql<AnyId, Pg> for Id {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        match value.get_oid().get() {
            BIGINT => <i64 as FromSql<BigInt, Pg>>::from_sql(value).map(Self::Number),
            UUID => {
                let uuid = Uuid::from_slice(value.as_bytes())?;
                Ok(Self::from(&*uuid.hyphenated().to_string()))
            }
            _ => text::<Pg>(value),
        }
    }
}

impl From<&Id> for Param {
    fn from(id: &Id) -> Self {
        match id {
            Id::Number(number) => Self::Number(*number),
            Id::Text(text) => Self::Text(text.to_string()),
        }
    }
}
