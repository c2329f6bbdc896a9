//! The processes of the deployment with their last two reports, and the rates that follow from them: counters only grow, so
//! a rate is the difference of two reports of one process, divided by that of their uptimes.

use std::collections::BTreeMap;

use crate::cli::reports::{
    ActorReport, ActorState, DeploymentReport, ProcessReport, ProcessState, Snapshot,
};

/// A process with its last report and the one before.
#[derive(Debug, Clone)]
pub(super) struct Process {
    pub(super) last: ProcessReport,
    before: Option<Snapshot>,
}

/// Every process that the service lists.
#[derive(Debug, Clone, Default)]
pub(super) struct Processes {
    all: Vec<Process>,
}

impl Process {
    /// Takes the next report. A smaller sequence means that the process started anew.
    fn follow(before: Option<Self>, next: ProcessReport) -> Self {
        let before = match before {
            Some(Self { last, before }) if last.report.sequence == next.report.sequence => before,
            Some(Self { last, .. }) if last.report.sequence < next.report.sequence => {
                Some(last.report)
            }
            _ => None,
        };
        Self { last: next, before }
    }

    /// Returns how much a counter of an actor grows in a second; `None` without two reports, or if no more come.
    pub(super) fn rate(&self, name: &str, counter: impl Fn(&ActorReport) -> u64) -> Option<f64> {
        let before = self.before.as_ref()?;
        let last = &self.last.report;
        let seconds = last.uptime_seconds - before.uptime_seconds;
        if self.last.state != ProcessState::Running || seconds <= 0.0 {
            return None;
        }
        let grown = counter(last.actor(name)?).saturating_sub(counter(before.actor(name)?));
        Some(grown as f64 / seconds)
    }

    /// Returns how far its clock is ahead of the database's, in milliseconds.
    pub(super) fn clock_skew_ms(&self) -> Option<i64> {
        let monitor = self.last.report.actor("health_monitor")?;
        monitor.details["clock_skew_ms"].as_i64()
    }

    /// Returns the two dependencies without which it refuses likes, if it does.
    pub(super) fn refuses_without(&self) -> Option<Vec<&str>> {
        let monitor = self.last.report.actor("health_monitor")?;
        let missing = monitor.details["refusing_likes_without"].as_array()?;
        Some(missing.iter().filter_map(|name| name.as_str()).collect())
    }
}

impl Processes {
    /// Takes the next reports.
    pub(super) fn follow(&mut self, next: DeploymentReport) {
        let before = std::mem::take(&mut self.all).into_iter();
        let mut before: BTreeMap<_, _> = before
            .map(|process| (process.last.id.clone(), process))
            .collect();
        let next = next.processes.into_iter();
        self.all = next
            .map(|process| Process::follow(before.remove(&process.id), process))
            .collect();
    }

    /// Returns every process: the one that answers first, then those in trouble, then the others.
    pub(super) fn all(&self) -> Vec<&Process> {
        let mut all: Vec<_> = self.all.iter().collect();
        all.sort_by_key(|process| match process.last.state {
            _ if process.last.is_this => 0,
            ProcessState::Silent => 1,
            ProcessState::Gone => 2,
            ProcessState::Running => 3,
            ProcessState::Stopped => 4,
        });
        all
    }

    /// Returns the process with this id.
    pub(super) fn get(&self, id: &str) -> Option<&Process> {
        self.all.iter().find(|process| process.last.id == id)
    }

    /// Returns the processes whose reports are current.
    pub(super) fn present(&self) -> impl Iterator<Item = &Process> {
        let all = self.all.iter();
        all.filter(|process| process.last.state.is_present())
    }

    /// Returns the actors of this name that run, in the processes whose reports are current.
    fn running(&self, name: &str) -> impl Iterator<Item = &ActorReport> {
        let actors = self
            .present()
            .filter_map(move |process| process.last.report.actor(name));
        actors.filter(|actor| actor.state != ActorState::Disabled)
    }

    /// Returns the likes and unlikes accepted a second by all processes.
    pub(super) fn accepted(&self) -> f64 {
        match self.running("event_publisher").next() {
            Some(_) => self.sum("event_publisher", |actor| actor.received("Publish")),
            None => self.sum("behavior_recorder", |actor| actor.received("Record")),
        }
    }

    /// Returns the events completed a second by all processes.
    pub(super) fn completed(&self) -> f64 {
        self.sum("sync_publisher", |actor| actor.processed)
    }

    fn sum(&self, name: &str, counter: impl Fn(&ActorReport) -> u64) -> f64 {
        let rates = self
            .present()
            .filter_map(|process| process.rate(name, &counter));
        rates.sum()
    }

    /// Returns the messages of the stream that no worker has acknowledged; `None` if no process pulls from one.
    pub(super) fn consumer_lag(&self) -> Option<u64> {
        let pending = self.running("nats_subscriber");
        pending
            .filter_map(|actor| actor.details["pending"].as_u64())
            .max()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(id: &str, state: &str, sequence: u64, uptime: f64, processed: u64) -> ProcessReport {
        let report = json!({
            "id": id, "host": id, "role": "all", "version": "1.0.0", "state": state,
            "report": {
                "sequence": sequence,
                "uptime_seconds": uptime,
                "actors": [{"name": "sync_publisher", "state": "running", "processed": processed}]
            }
        });
        serde_json::from_value(report).expect("a report")
    }

    fn follow(processes: &mut Processes, reports: Vec<ProcessReport>) -> f64 {
        processes.follow(DeploymentReport {
            captured_at: chrono::DateTime::default(),
            note: None,
            processes: reports,
        });
        processes.completed()
    }

    #[test]
    fn rate_is_the_difference_of_two_reports() {
        let mut processes = Processes::default();
        let rates = [
            // The first report of a process.
            follow(&mut processes, vec![report("a", "running", 7, 10.0, 1_000)]),
            follow(&mut processes, vec![report("a", "running", 9, 12.0, 1_300)]),
            // The same report again.
            follow(&mut processes, vec![report("a", "running", 9, 12.0, 1_300)]),
            follow(
                &mut processes,
                vec![report("a", "running", 10, 13.0, 1_310)],
            ),
            // The process started anew, and has run for longer than before when it is seen again.
            follow(&mut processes, vec![report("a", "running", 1, 20.0, 5_000)]),
            follow(&mut processes, vec![report("a", "running", 2, 21.0, 5_005)]),
        ];
        assert_eq!(rates, [0.0, 150.0, 150.0, 10.0, 0.0, 5.0]);
    }

    #[test]
    fn processes_add_up_while_they_report() {
        let mut processes = Processes::default();
        let both = |state, sequence, uptime, processed| {
            vec![
                report("a", "running", sequence, uptime, processed),
                report("b", state, sequence, uptime, processed),
            ]
        };
        follow(&mut processes, both("running", 1, 1.0, 0));
        assert_eq!(follow(&mut processes, both("running", 2, 2.0, 10)), 20.0);
        assert_eq!(follow(&mut processes, both("gone", 3, 3.0, 20)), 10.0);
        let order: Vec<_> = processes
            .all()
            .iter()
            .map(|one| one.last.id.clone())
            .collect();
        assert_eq!(order, ["b", "a"]);
    }
}
