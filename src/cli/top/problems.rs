//! What an operator has to look at, most severe first.

use super::answers::{Part, PartState, Readiness};
use super::model::Model;
use super::processes::Process;
use crate::cli::format::{millis, plural};
use crate::cli::reports::{ActorReport, ActorState, ProcessState};

/// The number of processes that fit on every screen.
pub(super) const LISTED: usize = 3;

/// The skew of a clock that is worth a look, in milliseconds.
const SKEWED: u64 = 1_000;

/// Something that is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// Whether something does not work now.
    pub(super) is_severe: bool,
    pub(super) text: String,
}

/// Returns everything that is wrong.
pub(super) fn problems(model: &Model) -> Vec<Problem> {
    let mut found = Vec::new();
    let several = model.processes.present().count() > 1;
    let all = model.processes.all();
    for process in &all {
        // Few processes are all listed with their state.
        if all.len() > LISTED {
            found.extend(of_silence(process));
        }
        of_process(process, several, &mut found);
    }
    if let Some(readiness) = &model.figures.readiness {
        of_readiness(readiness, &mut found);
    }
    if let Some(ledger) = &model.figures.ledger
        && let Some(dead) = ledger.rows.get("dead").filter(|dead| **dead > 0)
    {
        let text = format!(
            "{} dead: see `likewise events search --status dead`",
            plural(*dead, "event")
        );
        found.push(Problem {
            is_severe: false,
            text,
        });
    }
    // Stable: what comes first in the flow stays first.
    found.sort_by_key(|problem| !problem.is_severe);
    found
}

/// A process that sends no reports, and has not ended in order.
fn of_silence(process: &Process) -> Option<Problem> {
    let last = &process.last;
    let is_severe = last.state == ProcessState::Gone;
    (is_severe || last.state == ProcessState::Silent).then(|| Problem {
        is_severe,
        text: format!(
            "{} ({}) is {}: its last report came {} ago",
            last.host,
            last.role,
            last.state.as_str(),
            millis(last.age_ms)
        ),
    })
}

fn of_process(process: &Process, several: bool, found: &mut Vec<Problem>) {
    let last = &process.last;
    let mut add = |is_severe, text| found.push(Problem { is_severe, text });
    if !last.state.is_present() {
        return;
    }
    let place = if several {
        format!(" on {}", last.host)
    } else {
        String::new()
    };
    if let Some(missing) = process.refuses_without() {
        add(
            true,
            format!(
                "likes are refused{place}: {} are down",
                missing.join(" and ")
            ),
        );
    }
    let skew = process.clock_skew_ms().unwrap_or_default();
    if skew.unsigned_abs() >= SKEWED {
        let age = millis(skew.unsigned_abs());
        let side = if skew > 0 { "ahead of" } else { "behind" };
        add(
            false,
            format!("the clock{place} is {age} {side} the database's"),
        );
    }
    for actor in &last.report.actors {
        if let Some(problem) = of_actor(actor, &place) {
            found.push(problem);
        }
    }
}

fn of_actor(actor: &ActorReport, place: &str) -> Option<Problem> {
    let ActorReport { name, state, .. } = actor;
    let is_severe = matches!(
        state,
        ActorState::Failed | ActorState::Stuck | ActorState::Restarting
    );
    if is_severe || *state == ActorState::Paused {
        let reason = actor.reason.as_deref();
        let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
        let text = format!("{name}{place} is {}{reason}", state.as_str());
        return Some(Problem { is_severe, text });
    }
    let panics = actor.supervision.panics_in_window;
    let panic = actor.supervision.last_panic.as_ref();
    let message = panic.map_or_else(String::new, |panic| format!(": {}", panic.message));
    (panics > 0).then(|| Problem {
        is_severe: false,
        text: format!(
            "{name}{place} panicked {} in the last {} s and restarted{message}",
            plural(panics, "time"),
            actor.supervision.window_seconds
        ),
    })
}

fn of_readiness(readiness: &Readiness, found: &mut Vec<Problem>) {
    let mut add = |is_severe, text| found.push(Problem { is_severe, text });
    for (name, part) in &readiness.parts {
        of_part(name, part, &mut add);
    }
    if readiness.draining {
        add(true, "the process that answers is shutting down".to_owned());
    } else if let Some(missing) = &readiness.waiting_for {
        add(
            true,
            format!("the process that answers waits for {missing}"),
        );
    } else if !readiness.ready {
        add(
            true,
            "the process that answers is not ready to accept likes".to_owned(),
        );
    }
    for failing in &readiness.failing {
        let age = millis(failing.seconds * 1_000);
        let calls = plural(failing.calls, "call");
        add(
            true,
            format!(
                "{} fails: {} for {age}, {calls}",
                failing.dependency, failing.doing
            ),
        );
    }
    for warning in &readiness.warnings {
        add(false, warning.clone());
    }
}

fn of_part(name: &str, part: &Part, add: &mut impl FnMut(bool, String)) {
    if part.state == PartState::Down {
        let error = part.error.as_deref();
        let error = error.map_or_else(String::new, |error| format!(": {error}"));
        add(true, format!("{name} ({}) is down{error}", part.kind));
    }
    for master in &part.masters {
        if master.state == PartState::Down {
            add(
                true,
                format!("the {name}'s master of the slots {} is down", master.slots),
            );
        }
    }
    for warning in &part.warnings {
        add(false, format!("{name}: {warning}"));
    }
}
