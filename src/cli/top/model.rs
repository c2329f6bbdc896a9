//! What `likewise top` knows and what it shows of it. Only updates and keys change it; `view` draws it and changes nothing.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};

use super::answers::{CompletionTimes, Ledger, Readiness};
use super::processes::{Process, Processes};
use crate::cli::reports::{ActorReport, ActorState, DeploymentReport, Session};

/// The reports whose throughput is kept.
const KEPT: usize = 120;

/// Something that the service has answered, or not.
#[derive(Debug)]
pub(super) enum Update {
    /// The actors of every process.
    Report(Box<DeploymentReport>),
    /// It does not answer, or refuses, for this reason.
    Away(String),
    /// What the caller may do.
    Session(Session),
    /// Figures of the process and the database; `None` where they could not be had.
    Figures(Box<Figures>),
    /// What came of an operation.
    Operated(Result<String, String>),
}

/// Figures beside the actors.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures {
    pub(super) readiness: Option<Readiness>,
    pub(super) ledger: Option<Ledger>,
    pub(super) completion: Option<CompletionTimes>,
}

/// An actor of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The id of the process.
    pub(super) process: String,
    /// The name of the actor.
    pub(super) actor: String,
}

/// An actor in the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) process: &'a Process,
    pub(super) actor: &'a ActorReport,
    /// Events processed a second.
    pub(super) rate: Option<f64>,
}

impl Row<'_> {
    /// Returns where the actor is.
    pub(super) fn place(&self) -> Place {
        Place {
            process: self.process.last.id.clone(),
            actor: self.actor.name.clone(),
        }
    }
}

/// The order of the table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Sort {
    /// The worst state first, then in the order of the flow.
    #[default]
    State,
    /// The order of the flow.
    Flow,
    /// The fullest mailbox first.
    Depth,
    /// The longest wait first.
    Oldest,
    /// The busiest first.
    Rate,
    /// By name.
    Name,
}

impl Sort {
    /// Returns its name.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Flow => "flow",
            Self::Depth => "mailbox",
            Self::Oldest => "oldest",
            Self::Rate => "rate",
            Self::Name => "name",
        }
    }

    /// Returns the next one.
    pub(super) const fn next(self) -> Self {
        match self {
            Self::State => Self::Flow,
            Self::Flow => Self::Depth,
            Self::Depth => Self::Oldest,
            Self::Oldest => Self::Rate,
            Self::Rate => Self::Name,
            Self::Name => Self::State,
        }
    }
}

/// What an operator can do to an actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Pause,
    Resume,
    Restart,
}

impl Action {
    /// Returns its name, which is also the last part of its path.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Restart => "restart",
        }
    }

    /// Returns what it does, for the question.
    pub(super) const fn effect(self) -> &'static str {
        match self {
            Self::Pause => "Its messages wait, and requests that need it get 503.",
            Self::Resume => "It takes messages again.",
            Self::Restart => "Its messages stay, and its schedule begins anew.",
        }
    }
}

/// An operation on an actor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Operation {
    pub(super) action: Action,
    pub(super) place: Place,
    /// The title of the process.
    pub(super) host: String,
}

/// What covers the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Screen {
    #[default]
    Table,
    /// Everything of one actor, from this line on.
    Detail(Place, u16),
    /// The keys.
    Help,
}

/// Why there are no new reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Away {
    pub(super) since: DateTime<Utc>,
    pub(super) reason: String,
}

/// Everything that is drawn.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) url: String,
    /// The time of this machine, for the age of what was asked.
    pub(super) now: DateTime<Utc>,
    pub(super) has_colour: bool,
    pub(super) processes: Processes,
    /// When the service made the last report, by its clock.
    pub(super) captured_at: DateTime<Utc>,
    /// Why other processes cannot be seen.
    pub(super) note: Option<String>,
    pub(super) away: Option<Away>,
    pub(super) figures: Figures,
    pub(super) session: Session,
    /// Accepted and completed events a second, oldest first.
    pub(super) throughput: VecDeque<(f64, f64)>,
    pub(super) screen: Screen,
    /// The operation that waits for a confirmation.
    pub(super) question: Option<Operation>,
    pub(super) sort: Sort,
    /// The text that rows must contain, in small letters.
    pub(super) search: String,
    /// Whether keys go into the search.
    pub(super) is_searching: bool,
    /// The id of the process whose actors are shown; all without.
    pub(super) process: Option<String>,
    /// Whether actors are shown that a process does not run.
    pub(super) shows_disabled: bool,
    pub(super) selected: Option<Place>,
    /// Whether an operation has not been answered yet.
    pub(super) is_operating: bool,
    /// What came of the last operation or key; an error in `Err`.
    pub(super) message: Option<Result<String, String>>,
}

impl Model {
    /// Takes what the service has answered.
    pub(super) fn apply(&mut self, update: Update) {
        match update {
            Update::Report(report) => {
                self.away = None;
                self.captured_at = report.captured_at;
                self.note.clone_from(&report.note);
                self.processes.follow(*report);
                if self.throughput.len() == KEPT {
                    self.throughput.pop_front();
                }
                let rates = (self.processes.accepted(), self.processes.completed());
                self.throughput.push_back(rates);
                self.keep_choices();
            }
            Update::Away(reason) => {
                let since = self.away.take().map_or(self.now, |away| away.since);
                self.away = Some(Away { since, reason });
            }
            Update::Session(session) => self.session = session,
            Update::Figures(figures) => self.figures = *figures,
            Update::Operated(outcome) => {
                self.is_operating = false;
                self.message = Some(outcome);
            }
        }
    }

    /// Gives up the choice of a process that is no longer listed, and selects a row if none is.
    fn keep_choices(&mut self) {
        let is_listed = |id: &String| self.processes.get(id).is_some();
        if !self.process.as_ref().is_none_or(is_listed) {
            self.process = None;
        }
        if self.position().is_none() {
            self.select(0);
        }
    }

    /// Returns the actors of the table, in its order.
    pub(super) fn rows(&self) -> Vec<Row<'_>> {
        let chosen = self.process.as_deref();
        let processes = self.processes.all().into_iter();
        let processes = processes.filter(|process| match chosen {
            Some(id) => process.last.id == id,
            None => process.last.state.is_present(),
        });
        let mut rows: Vec<Row<'_>> = processes
            .flat_map(|process| {
                let actors = process.last.report.actors.iter();
                actors.map(move |actor| Row {
                    process,
                    actor,
                    rate: process.rate(&actor.name, |actor| actor.processed),
                })
            })
            .filter(|row| self.shows_disabled || row.actor.state != ActorState::Disabled)
            .filter(|row| self.finds(row))
            .collect();
        match self.sort {
            Sort::Flow => {}
            Sort::State => rows.sort_by_key(|row| row.actor.state),
            Sort::Depth => rows.sort_by_key(|row| std::cmp::Reverse(row.actor.mailbox.depth)),
            Sort::Oldest => rows.sort_by_key(|row| std::cmp::Reverse(row.actor.mailbox.oldest_ms)),
            Sort::Rate => {
                let rate = |row: &Row<'_>| row.rate.unwrap_or(-1.0);
                rows.sort_by(|one, other| rate(other).total_cmp(&rate(one)));
            }
            Sort::Name => rows.sort_by(|one, other| one.actor.name.cmp(&other.actor.name)),
        }
        rows
    }

    fn finds(&self, row: &Row<'_>) -> bool {
        let Row { process, actor, .. } = row;
        let reason = actor.reason.as_deref().unwrap_or_default();
        let process = &process.last;
        let mut texts = [
            actor.name.as_str(),
            actor.state.as_str(),
            reason,
            &process.host,
            &process.role,
        ]
        .into_iter();
        self.search.is_empty() || texts.any(|text| text.to_lowercase().contains(&self.search))
    }

    /// Returns the index of the selected row.
    pub(super) fn position(&self) -> Option<usize> {
        let selected = self.selected.as_ref()?;
        let mut rows = self.rows().into_iter();
        rows.position(|row| {
            row.process.last.id == selected.process && row.actor.name == selected.actor
        })
    }

    /// Selects the row of this index, or the last one.
    pub(super) fn select(&mut self, index: usize) {
        let rows = self.rows();
        let row = rows.get(index.min(rows.len().saturating_sub(1)));
        self.selected = row.map(Row::place);
    }

    /// Returns an actor and its process.
    pub(super) fn find(&self, place: &Place) -> Option<Row<'_>> {
        let process = self.processes.get(&place.process)?;
        let actor = process.last.report.actor(&place.actor)?;
        let rate = process.rate(&actor.name, |actor| actor.processed);
        Some(Row {
            process,
            actor,
            rate,
        })
    }

    /// Returns whether the processes of several rows must be named.
    pub(super) fn shows_processes(&self) -> bool {
        self.process.is_none() && self.processes.present().count() > 1
    }
}
