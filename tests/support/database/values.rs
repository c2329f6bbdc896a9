//! The rows of any query, whose types are known only at run time.

use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::mysql::{Mysql, MysqlType, MysqlValue};
use diesel::pg::{Pg, PgValue};
use diesel::row::{Field, Row};
use diesel::sql_types::{
    BigInt, Bool, Datetime, Double, Integer, SmallInt, Text, Timestamp, Untyped,
};
use diesel::sqlite::{Sqlite, SqliteType, SqliteValue};

/// A value of a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// NULL.
    Null,
    /// An integer or a truth value.
    Number(i64),
    /// Any other value, as text.
    Text(String),
}

impl Value {
    /// Returns the number.
    #[track_caller]
    pub fn number(&self) -> i64 {
        match self {
            Self::Number(number) => *number,
            other => panic!("not a number: {other:?}"),
        }
    }

    /// Returns the text.
    #[track_caller]
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            other => panic!("not text: {other:?}"),
        }
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// A row of any query.
pub(super) struct AnyRow(pub(super) Vec<Value>);

/// A database whose value types can be told apart without knowing the query.
trait AnyValue: Backend {
    fn value(raw: Self::RawValue<'_>) -> deserialize::Result<Value>;
}

impl AnyRow {
    fn of<'a, DB: AnyValue>(row: &impl Row<'a, DB>) -> deserialize::Result<Self> {
        let mut values = Vec::with_capacity(row.field_count());
        for index in 0..row.field_count() {
            let field = row.get(index).ok_or("a field is missing")?;
            values.push(field.value().map_or(Ok(Value::Null), DB::value)?);
        }
        Ok(Self(values))
    }
}

macro_rules! any_row {
    ($($database:ty),*) => {
        $(impl FromSqlRow<Untyped, $database> for AnyRow {
            fn build_from_row<'a>(row: &impl Row<'a, $database>) -> deserialize::Result<Self> {
                Self::of(row)
            }
        })*
    };
}

any_row!(Sqlite, Mysql, Pg);

fn moment(moment: chrono::NaiveDateTime) -> Value {
    Value::Text(moment.format("%Y-%m-%d %H:%M:%S%.6f").to_string())
}

impl AnyValue for Sqlite {
    fn value(raw: SqliteValue<'_, '_, '_>) -> deserialize::Result<Value> {
        Ok(match raw.value_type() {
            Some(SqliteType::Double) => {
                let number = <f64 as FromSql<Double, Self>>::from_sql(raw)?;
                Value::Text(number.to_string())
            }
            Some(SqliteType::Text | SqliteType::Binary) => {
                Value::Text(FromSql::<Text, Self>::from_sql(raw)?)
            }
            _ => Value::Number(FromSql::<BigInt, Self>::from_sql(raw)?),
        })
    }
}

impl AnyValue for Mysql {
    fn value(raw: MysqlValue<'_>) -> deserialize::Result<Value> {
        use MysqlType as Type;
        Ok(match raw.value_type() {
            Type::DateTime | Type::Timestamp => moment(FromSql::<Datetime, Self>::from_sql(raw)?),
            Type::Tiny | Type::Short | Type::Long | Type::LongLong => {
                Value::Number(FromSql::<BigInt, Self>::from_sql(raw)?)
            }
            _ => Value::Text(String::from_utf8_lossy(raw.as_bytes()).into_owned()),
        })
    }
}

impl AnyValue for Pg {
    fn value(raw: PgValue<'_>) -> deserialize::Result<Value> {
        // PostgreSQL's catalogue fixes the numbers of its types.
        Ok(match raw.get_oid().get() {
            16 => Value::Number(<bool as FromSql<Bool, Self>>::from_sql(raw)?.into()),
            20 => Value::Number(FromSql::<BigInt, Self>::from_sql(raw)?),
            21 => Value::Number(<i16 as FromSql<SmallInt, Self>>::from_sql(raw)?.into()),
            23 => Value::Number(<i32 as FromSql<Integer, Self>>::from_sql(raw)?.into()),
            1114 => moment(FromSql::<Timestamp, Self>::from_sql(raw)?),
            _ => Value::Text(String::from_utf8_lossy(raw.as_bytes()).into_owned()),
        })
    }
}
