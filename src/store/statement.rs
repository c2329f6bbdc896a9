//! Statements: a text, cut at its parameters, and their values.

use chrono::{DateTime, Datelike, Timelike, Utc};
use diesel::QueryResult;
use diesel::backend::Backend;
use diesel::query_builder::{AstPass, Query as DieselQuery, QueryFragment, QueryId};
use diesel::serialize::ToSql;
use diesel::sql_types::{BigInt, HasSqlType, Text, Untyped};
use serde::Serialize;

/// One statement: its text, cut at its parameters.
#[derive(Debug)]
pub(super) struct Statement {
    /// Each piece of text with the index of the parameter that follows it.
    pieces: Vec<(String, usize)>,
    /// The text after the last parameter.
    tail: String,
}

impl Statement {
    /// Cuts the text at its parameters. A `$` that no digit follows is part of the text.
    pub(super) fn parse(sql: &str) -> Self {
        let mut pieces = Vec::new();
        let mut text = String::new();
        let mut rest = sql;
        while let Some((before, after)) = rest.split_once('$') {
            text.push_str(before);
            let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            match after[..digits].parse::<usize>() {
                Ok(number) => pieces.push((std::mem::take(&mut text), number - 1)),
                Err(_) => text.push('$'),
            }
            rest = &after[digits..];
        }
        text.push_str(rest);
        Self { pieces, tail: text }
    }

    /// The statement with its parameters in the text, to be explained.
    pub(super) fn spelled(&self, params: &[Param]) -> String {
        let mut sql = String::new();
        for (text, param) in &self.pieces {
            sql.push_str(text);
            match &params[*param] {
                Param::Number(number) => sql.push_str(&number.to_string()),
                Param::Text(text) => {
                    sql.push('\'');
                    sql.push_str(&text.replace('\'', "''"));
                    sql.push('\'');
                }
            }
        }
        sql + &self.tail
    }
}

/// One parameter of a statement.
#[derive(Debug)]
pub(super) enum Param {
    Number(i64),
    Text(String),
}

impl Param {
    /// A moment.
    pub(super) fn time(moment: DateTime<Utc>) -> Self {
        Self::Text(time_text(moment))
    }

    /// The most rows of an answer.
    pub(super) fn limit(rows: usize) -> Self {
        Self::Number(Self::count(rows))
    }

    /// A number of rows, as the database counts them.
    pub(super) fn count(rows: usize) -> i64 {
        i64::try_from(rows).unwrap_or(i64::MAX)
    }

    /// A batch: an array of arrays, the parameter of `Dialect::rows`.
    pub(super) fn rows<T: Serialize>(rows: &[T]) -> Self {
        Self::Text(serde_json::to_string(rows).unwrap_or_else(|error| {
            unreachable!("tuples of numbers and text are always JSON: {error}")
        }))
    }
}

/// A moment as every database reads it, in UTC; text of equal length, so that it also sorts as text.
pub(super) fn time_text(moment: DateTime<Utc>) -> String {
    let moment = moment.naive_utc();
    let micros = moment.nanosecond() / 1_000;
    // Years of more digits, and leap seconds.
    if !(0..=9_999).contains(&moment.year()) || micros > 999_999 {
        return moment.format("%Y-%m-%d %H:%M:%S%.6f").to_string();
    }
    // Each event has several times, and chrono parses its format for each.
    let numbers = [
        (0..4, moment.year().unsigned_abs()),
        (5..7, moment.month()),
        (8..10, moment.day()),
        (11..13, moment.hour()),
        (14..16, moment.minute()),
        (17..19, moment.second()),
        (20..26, micros),
    ];
    let mut text = *b"0000-00-00 00:00:00.000000";
    for (place, mut number) in numbers {
        for digit in text[place].iter_mut().rev() {
            *digit += (number % 10) as u8;
            number /= 10;
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// A statement with its parameters. The text never changes, so that it is prepared only once.
pub(super) struct Query<'a> {
    pub(super) statement: &'a Statement,
    pub(super) params: &'a [Param],
}

impl<DB> QueryFragment<DB> for Query<'_>
where
    DB: Backend + HasSqlType<BigInt> + HasSqlType<Text>,
    i64: ToSql<BigInt, DB>,
    String: ToSql<Text, DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        for (text, param) in &self.statement.pieces {
            out.push_sql(text);
            match &self.params[*param] {
                Param::Number(number) => out.push_bind_param::<BigInt, _>(number)?,
                Param::Text(text) => out.push_bind_param::<Text, _>(text)?,
            }
        }
        out.push_sql(&self.statement.tail);
        Ok(())
    }
}

impl QueryId for Query<'_> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl DieselQuery for Query<'_> {
    type SqlType = Untyped;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn time_texts_are_those_of_chrono(
            seconds in -70_000_000_000_i64..260_000_000_000,
            nanos in 0_u32..1_000_000_000,
        ) {
            let moment = DateTime::from_timestamp(seconds, nanos).expect("a moment");
            let expected = moment.format("%Y-%m-%d %H:%M:%S%.6f").to_string();
            prop_assert_eq!(time_text(moment), expected);
        }
    }

    #[test]
    fn time_text_of_a_leap_second_has_sixty_seconds() {
        let moment = DateTime::from_timestamp(59, 1_500_000_000).expect("a leap second");
        assert_eq!(time_text(moment), "1970-01-01 00:00:60.500000");
    }

    #[test]
    fn parameters_bind_at_each_place_the_text_names() {
        let statement = Statement::parse("a $2 b $1 c '$[0]' $2 d");
        let pieces: Vec<_> = statement
            .pieces
            .iter()
            .map(|(text, param)| (text.as_str(), *param))
            .collect();
        assert_eq!(pieces, [("a ", 1), (" b ", 0), (" c '$[0]' ", 1)]);
        assert_eq!(statement.tail, " d");
    }
}
