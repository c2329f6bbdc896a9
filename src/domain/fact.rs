//! Facts: what other services learn after a commit. The sync transaction derives them, and the outbox stores them.

use std::collections::BTreeMap;

use chrono::SecondsFormat;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use super::behavior::Resource;
use super::fold::{Fold, Pair};
use super::id::Id;
use super::ledger::LedgerRow;
use super::like_count::LikeCount;
use super::pair_state::PairState;
use super::trace_parent::TraceParent;
use super::version::Version;
use super::versioned_state::VersionedState;
use super::words::words;

/// A change of a pair.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum FactKind {
    /// The pair was not liked before the commit, and is liked after it.
    Liked,
    /// The pair was liked before the commit, and is not liked after it.
    Unliked,
}

words!(FactKind, "fact", [Liked = "liked", Unliked = "unliked"]);

/// A committed change of a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// The id of the event that changed the pair.
    pub event_id: Uuid,
    /// The change.
    pub kind: FactKind,
    /// The user and the resource.
    pub pair: Pair,
    /// The like count of the resource after the commit.
    pub like_count: i64,
    /// The version of the event: facts of one pair have ascending versions.
    pub version: Version,
    /// The place of the event in its trace, if it has one.
    pub trace: Option<TraceParent>,
}

/// An event that may have begun a state: whether its version is that of the beginning, its state, its id and its trace.
type Beginning = (bool, VersionedState, Uuid, Option<TraceParent>);

impl Fact {
    /// Returns the facts of a commit: one for each pair whose liked state differs after it. `rows` are the folded ledger
    /// rows, and `counts` the counts after the commit.
    #[must_use]
    pub fn of_commit(
        rows: &[&LedgerRow],
        before: &BTreeMap<Pair, PairState>,
        fold: &Fold,
        counts: &BTreeMap<Resource, LikeCount>,
    ) -> Vec<Self> {
        let was_liked = |pair: &Pair| before.get(pair).is_some_and(|state| state.newest.liked);
        let changed = fold
            .changed
            .iter()
            .map(|pair| (pair, fold.states[pair]))
            .filter(|(pair, after)| was_liked(pair) != after.newest.liked);
        // For each pair its state, and the event that began it: the newest event may be a repeat.
        let mut facts: BTreeMap<&Pair, (PairState, Option<Beginning>)> =
            changed.map(|(pair, after)| (pair, (after, None))).collect();
        if facts.is_empty() {
            return Vec::new();
        }
        for row in rows {
            if let Some((after, begun)) = facts.get_mut(&row.pair()) {
                let state = VersionedState::new(row.version, row.action);
                let is_exact = state.liked == after.newest.liked && state.version == after.since;
                *begun = (*begun).max(Some((is_exact, state, row.event_id, row.trace)));
            }
        }
        let fact = |(pair, (after, begun)): (&Pair, (PairState, Option<Beginning>))| {
            let (_, state, event_id, trace) = begun?;
            Some(Self {
                event_id,
                kind: match after.newest.liked {
                    true => FactKind::Liked,
                    false => FactKind::Unliked,
                },
                like_count: counts.get(&pair.resource)?.like_count,
                pair: pair.clone(),
                version: state.version,
                trace,
            })
        };
        facts.into_iter().filter_map(fact).collect()
    }

    /// Returns the JSON object that other services receive. `ids_as_text` shows ids that are numbers as text.
    #[must_use]
    pub fn json(&self, ids_as_text: bool) -> Value {
        let id = |id: &Id| match ids_as_text {
            true => json!(id.text()),
            false => json!(id),
        };
        let happened_at = self.version.moment();
        let mut json = json!({
            "event_id": self.event_id,
            "fact": self.kind,
            "user_id": id(&self.pair.user_id),
            "resource_type": self.pair.resource.resource_type,
            "resource_id": id(&self.pair.resource.id),
            "like_count": self.like_count,
            "version": self.version,
            "happened_at": happened_at.to_rfc3339_opts(SecondsFormat::Micros, true),
        });
        if let Some(trace) = self.trace {
            json[TraceParent::HEADER] = json!(trace);
        }
        json
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Action;

    fn row(user: i64, version: i64, action: Action) -> LedgerRow {
        LedgerRow {
            event_id: Uuid::from_u128(u128::from(version.unsigned_abs())),
            user_id: user.into(),
            resource: Resource::video(7),
            action,
            version: Version(version),
            retry_count: 0,
            max_retries: 0,
            fencing_token: 1,
            trace: None,
        }
    }

    #[test]
    fn facts_are_the_pairs_whose_state_differs() {
        let rows = [
            row(1, 10, Action::Like),
            row(1, 12, Action::Like),
            row(2, 20, Action::Like),
            row(2, 21, Action::Unlike),
            row(3, 30, Action::Like),
            row(4, 40, Action::Unlike),
        ];
        let rows: Vec<_> = rows.iter().collect();
        let liked = PairState::begun_by(VersionedState::new(Version(1), Action::Like));
        let before = BTreeMap::from([(row(3, 1, Action::Like).pair(), liked), {
            (row(4, 1, Action::Like).pair(), liked)
        }]);
        let events = rows
            .iter()
            .map(|row| (row.pair(), VersionedState::new(row.version, row.action)));
        let fold = Fold::of(|pair| before.get(pair).copied(), events);
        let count = LikeCount {
            like_count: 2,
            revision: 3,
        };
        let counts = BTreeMap::from([(Resource::video(7), count)]);
        let facts = Fact::of_commit(&rows, &before, &fold, &counts);
        let seen: Vec<_> = facts
            .iter()
            .map(|fact| (fact.pair.user_id.clone(), fact.kind, fact.version.0))
            .collect();
        assert_eq!(
            seen,
            [
                (1.into(), FactKind::Liked, 10),
                (4.into(), FactKind::Unliked, 40)
            ]
        );
        assert!(facts.iter().all(|fact| fact.like_count == 2));
        // The second like of the same user is a repeat.
        assert_eq!(facts[0].event_id, rows[0].event_id);
    }

    #[test]
    fn json_shows_ids_as_configured() {
        let fact = Fact {
            event_id: Uuid::nil(),
            kind: FactKind::Liked,
            pair: row(42, 1, Action::Like).pair(),
            like_count: 1,
            version: Version(1_795_458_900_000_001),
            trace: None,
        };
        let json = fact.json(false);
        assert_eq!(json.get("traceparent"), None);
        assert_eq!(json["user_id"], 42);
        assert_eq!(json["happened_at"], "2026-11-23T18:35:00.000001Z");
        assert_eq!(fact.json(true)["resource_id"], "7");
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let traced = Fact {
            trace: TraceParent::parse(text),
            ..fact
        };
        assert_eq!(traced.json(true)["traceparent"], text);
    }
}
