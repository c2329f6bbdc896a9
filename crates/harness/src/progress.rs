//! The progress bar of a load on a terminal. `load` shows it while `drive` runs.

use std::fmt::Write;
use std::io::{IsTerminal, stderr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use crate::client::Outcome;
use crate::drive::Observer;
use crate::request::Request;

/// A progress bar that is shown until it is dropped.
pub(crate) struct Progress {
    bar: ProgressBar,
    failures: Arc<AtomicU64>,
}

impl Progress {
    /// Shows a bar on standard error; `None` if that is not a terminal.
    pub(crate) fn start(lines: u64, unlike_ratio: f64) -> Option<Self> {
        if !stderr().is_terminal() {
            return None;
        }
        let expected_unlikes = (lines as f64 * unlike_ratio) as u64;
        let failures = Arc::new(AtomicU64::new(0));
        let shown = Arc::clone(&failures);
        let style = ProgressStyle::with_template(
            "{wide_bar} {human_pos} of {human_len} · {rate} a second · {failures} failed · {eta} left",
        )
        .expect("a constant template is valid")
        // Writing into the bar's own text buffer cannot fail.
        .with_key("rate", |state: &ProgressState, text: &mut dyn Write| {
            let _ = write!(text, "{:.0}", state.per_sec());
        })
        .with_key("failures", move |_: &ProgressState, text: &mut dyn Write| {
            let _ = write!(text, "{}", shown.load(Ordering::Relaxed));
        });
        let bar = ProgressBar::new(lines + expected_unlikes).with_style(style);
        Some(Self { bar, failures })
    }
}

impl Observer for Progress {
    fn answered(&self, _request: &Request, outcome: &Outcome, _body: &[u8]) {
        if outcome.is_err() {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        self.bar.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
