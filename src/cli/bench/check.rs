//! Compares the tables with the likes that were sent: each request is one behavior and one completed ledger row, each
//! distinct pair is liked, and each count is the number of its pairs.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use harness::{Interactions, InteractionsError};

use super::ToolError;
use super::tables::Tables;
use crate::cli::Failure;
use crate::config::Settings;

/// The most differences of one kind that are shown.
const SHOWN: usize = 5;

/// Prints the differences. The exit code is 0 if there are none.
pub(super) async fn run(settings: &Settings, sent: Option<&Path>) -> Result<ExitCode, Failure> {
    let sent = sent.ok_or(ToolError::Needs("--from, the likes that were sent"))?;
    let sent = Sent::read(sent).map_err(|error| ToolError::Database(error.to_string()))?;
    let mut tables = Tables::open(settings).await?;
    let mut wrong = Vec::new();

    let behaviors = tables
        .number("SELECT '' AS label, COUNT(*) AS one, COUNT(*) AS two FROM user_behaviors")
        .await?;
    if behaviors != sent.requests {
        wrong.push(format!("{} requests, {behaviors} behaviors", sent.requests));
    }
    let ledger = tables
        .rows("SELECT status AS label, COUNT(*) AS one, COUNT(*) AS two FROM sync_events GROUP BY status")
        .await?;
    for row in &ledger {
        if row.label != "completed" || row.one != sent.requests {
            wrong.push(format!(
                "{} requests, {} ledger rows {}",
                sent.requests, row.one, row.label
            ));
        }
    }
    if ledger.is_empty() {
        wrong.push("the ledger is empty".to_owned());
    }
    let liked = tables
        .rows("SELECT '' AS label, user_id AS one, video_id AS two FROM video_likes WHERE deleted_at IS NULL")
        .await?;
    let liked: BTreeSet<_> = liked.iter().map(|row| (row.one, row.two)).collect();
    wrong.extend(differences("liked pairs", &sent.pairs, &liked));
    let counts = tables
        .rows(
            "SELECT '' AS label, resource_id AS one, like_count AS two FROM likewise_like_counts \
             WHERE resource_type = 'video' AND like_count <> 0",
        )
        .await?;
    let counts: BTreeSet<_> = counts.iter().map(|row| (row.one, row.two)).collect();
    wrong.extend(differences(
        "counts (video, likes)",
        &sent.counts(),
        &counts,
    ));

    let mut out = std::io::stdout().lock();
    for line in &wrong {
        writeln!(out, "{line}")?;
    }
    out.flush()?;
    Ok(match wrong.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn differences(
    what: &str,
    expected: &BTreeSet<(i64, i64)>,
    found: &BTreeSet<(i64, i64)>,
) -> Option<String> {
    let some = |of: &BTreeSet<_>, without: &BTreeSet<_>| {
        let first: Vec<_> = of.difference(without).take(SHOWN).collect();
        format!("{first:?}")
    };
    (expected != found).then(|| {
        format!(
            "{what}: {} expected, {} found; missing are {}, unexpected {}",
            expected.len(),
            found.len(),
            some(expected, found),
            some(found, expected)
        )
    })
}

/// The likes that were sent.
struct Sent {
    requests: i64,
    pairs: BTreeSet<(i64, i64)>,
}

impl Sent {
    fn read(path: &Path) -> Result<Self, InteractionsError> {
        let mut sent = Self {
            requests: 0,
            pairs: BTreeSet::new(),
        };
        for like in Interactions::open(path)? {
            let like = like?;
            sent.requests += 1;
            sent.pairs.insert((like.user_id, like.video_id));
        }
        Ok(sent)
    }

    fn counts(&self) -> BTreeSet<(i64, i64)> {
        let mut counts = BTreeMap::new();
        for (_, video) in &self.pairs {
            *counts.entry(*video).or_default() += 1;
        }
        counts.into_iter().collect()
    }
}
