//! The progress of a benchmark, for people who wait.

use std::io::{IsTerminal, Write, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar on standard error, or a line for each measurement where that is no terminal.
pub(super) struct Progress {
    bar: ProgressBar,
    is_terminal: bool,
}

impl Progress {
    pub(super) fn start() -> Self {
        let is_terminal = stderr().is_terminal();
        let bar = match is_terminal {
            true => ProgressBar::new(0),
            false => ProgressBar::hidden(),
        };
        let style = ProgressStyle::with_template(
            "{wide_bar} {pos} of {len} · {prefix} · {msg} · {elapsed}",
        );
        let bar = bar.with_style(style.expect("a constant template is valid"));
        bar.enable_steady_tick(Duration::from_millis(500));
        Self { bar, is_terminal }
    }

    pub(super) fn expect(&self, measurements: u64) {
        self.bar.set_length(measurements);
    }

    pub(super) fn round(&self, round: u32, of: u32) {
        self.bar.set_prefix(format!("round {round} of {of}"));
    }

    pub(super) fn doing(&self, what: &str) {
        self.bar.set_message(what.to_owned());
    }

    pub(super) fn done(&self, line: &str) {
        self.bar.inc(1);
        if self.is_terminal {
            self.bar.println(line);
        } else {
            // Nothing is left to do if standard error is closed.
            let _ = writeln!(stderr(), "{line}");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
