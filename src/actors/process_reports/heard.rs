//! The last report of each other process.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{ProcessReport, ProcessState};

/// How long the last report of a process that is gone or stopped is kept.
const KEPT_FOR: Duration = Duration::from_secs(3_600);

/// The most processes whose reports are kept; beyond it, the oldest report goes.
const MOST: usize = 500;

/// The least silence of a process that is silent, and of one that is gone.
const SILENT_AFTER: Duration = Duration::from_secs(3);
const GONE_AFTER: Duration = Duration::from_secs(10);

/// A report, as it travels.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Heard {
    pub(super) host: String,
    pub(super) role: String,
    pub(super) version: String,
    /// The time to the next report, in milliseconds.
    pub(super) interval_ms: u64,
    /// Whether it is the last one.
    pub(super) ended: bool,
    pub(super) report: Value,
}

impl Heard {
    pub(super) fn bytes(&self) -> Bytes {
        json!(self).to_string().into()
    }

    /// Returns the state of a process whose last report has this age.
    fn state(&self, age: Duration) -> ProcessState {
        let interval = Duration::from_millis(self.interval_ms.min(60_000));
        if self.ended {
            ProcessState::Stopped
        } else if age >= GONE_AFTER.max(interval * 10) {
            ProcessState::Gone
        } else if age >= SILENT_AFTER.max(interval * 3) {
            ProcessState::Silent
        } else {
            ProcessState::Running
        }
    }
}

/// The reports as they arrived. They are parsed when they are requested.
#[derive(Debug, Default)]
pub(super) struct HeardReports(Mutex<HashMap<String, (Bytes, Instant)>>);

impl HeardReports {
    /// Keeps the report of a process.
    pub(super) fn note(&self, process: String, body: Bytes) {
        let mut heard = self.lock();
        heard.insert(process, (body, Instant::now()));
        if heard.len() > MOST {
            let oldest = heard.iter().min_by_key(|(_, (_, at))| *at);
            if let Some(oldest) = oldest.map(|(process, _)| process.clone()) {
                heard.remove(&oldest);
            }
        }
    }

    /// Forgets processes that have not reported for an hour.
    pub(super) fn forget_old(&self) {
        self.lock().retain(|_, (_, at)| at.elapsed() < KEPT_FOR);
    }

    /// Returns whether a process with this id has reported within the last hour.
    pub(super) fn knows(&self, process: &str) -> bool {
        self.lock().contains_key(process)
    }

    /// Returns the number of processes that have reported lately.
    pub(super) fn running(&self) -> usize {
        let heard = self.lock();
        let recent = heard.values().filter(|(_, at)| at.elapsed() < GONE_AFTER);
        recent.count()
    }

    /// Returns the reports: of running processes, then of others, each in the order of their start. Messages that are no
    /// reports are left out.
    pub(super) fn reports(&self) -> Vec<ProcessReport> {
        let heard: Vec<_> = self
            .lock()
            .iter()
            .map(|(id, (body, at))| (id.clone(), body.clone(), at.elapsed()))
            .collect();
        let mut reports: Vec<_> = heard
            .into_iter()
            .filter_map(|(id, body, age)| read(id, &body, age))
            .collect();
        reports.sort_by_key(|process| {
            (
                process.state != ProcessState::Running,
                // Ids are UUIDs of version 7, which begin with the time.
                process.id.clone(),
            )
        });
        reports
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, (Bytes, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(id: String, body: &[u8], age: Duration) -> Option<ProcessReport> {
    let heard: Heard = serde_json::from_slice(body).ok()?;
    heard.report["actors"].as_array()?;
    Some(ProcessReport {
        id,
        is_this: false,
        state: heard.state(age),
        age_ms: age.as_millis() as u64,
        host: heard.host,
        role: heard.role,
        version: heard.version,
        report: heard.report,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(interval_ms: u64, ended: bool) -> Heard {
        Heard {
            host: "a process 1".to_owned(),
            role: "worker".to_owned(),
            version: "1.2.3".to_owned(),
            interval_ms,
            ended,
            report: json!({"actors": []}),
        }
    }

    #[test]
    fn state_follows_the_age_of_the_last_report() {
        let state =
            |interval_ms, ended, age| report(interval_ms, ended).state(Duration::from_millis(age));
        assert_eq!(state(1_000, false, 2_999), ProcessState::Running);
        assert_eq!(state(1_000, false, 3_000), ProcessState::Silent);
        assert_eq!(state(1_000, false, 10_000), ProcessState::Gone);
        assert_eq!(state(5_000, false, 14_999), ProcessState::Running);
        assert_eq!(state(5_000, false, 15_000), ProcessState::Silent);
        assert_eq!(state(1_000, true, 0), ProcessState::Stopped);
        // A process that lies about its interval is gone in time.
        assert_eq!(state(u64::MAX, false, 600_000), ProcessState::Gone);
    }

    #[test]
    fn messages_that_are_no_reports_are_left_out() {
        let heard = HeardReports::default();
        heard.note("2".to_owned(), report(1_000, false).bytes());
        heard.note("1".to_owned(), report(1_000, true).bytes());
        heard.note("3".to_owned(), Bytes::from_static(b"{}"));
        heard.note("4".to_owned(), Bytes::from_static(b"\xff"));
        let ids: Vec<_> = heard.reports().into_iter().map(|one| one.id).collect();
        assert_eq!(ids, ["2", "1"]);
        assert!(heard.knows("1") && !heard.knows("5"));
    }

    #[test]
    fn number_of_kept_reports_is_bounded() {
        let heard = HeardReports::default();
        for process in 0..MOST + 7 {
            heard.note(process.to_string(), report(1_000, false).bytes());
        }
        assert_eq!(heard.reports().len(), MOST);
        assert!(!heard.knows("0"));
    }
}
