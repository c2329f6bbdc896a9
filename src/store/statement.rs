//! Statements: a text, cut at its parameters, and their values.

use chrono::{DateTime, Utc};
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
    moment.format("%Y-%m-%d %H:%M:%S%.6f").to_string()
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
    use super::*;

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
