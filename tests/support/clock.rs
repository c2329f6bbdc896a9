//! A wall clock for one process, which tests step forward and back while the process runs.
//!
//! libfaketime answers the process's queries for the time of day. Monotonic time, which time-outs and back-offs use,
//! stays the machine's.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use chrono::TimeDelta;
use tempfile::TempDir;

use super::servers::program;

/// The wall clock of one process, or of several that share a machine: how far it is from the machine's.
#[derive(Debug, Clone)]
pub struct Clock {
    folder: Arc<TempDir>,
}

impl Clock {
    /// Creates a clock that agrees with the machine's.
    pub fn new() -> Self {
        let clock = Self {
            folder: Arc::new(tempfile::tempdir().expect("a temporary folder")),
        };
        clock.set(TimeDelta::zero());
        clock
    }

    /// Steps the clock: from here on it is `offset` ahead of the machine's clock, or behind if negative.
    pub fn set(&self, offset: TimeDelta) {
        let milliseconds = offset.num_milliseconds();
        let sign = if milliseconds < 0 { '-' } else { '+' };
        let milliseconds = milliseconds.unsigned_abs();
        let text = format!(
            "{sign}{}.{:03}\n",
            milliseconds / 1_000,
            milliseconds % 1_000
        );
        // Renamed into place, because the process may read the file at any moment.
        let new = self.folder.path().join("offset.new");
        fs::write(&new, text).expect("a file in the temporary folder");
        fs::rename(&new, self.file()).expect("a file in the temporary folder");
    }

    /// Makes a command run under this clock.
    #[track_caller]
    pub fn apply_to(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", program("LIKEWISE_TEST_FAKETIME"))
            .env("FAKETIME_TIMESTAMP_FILE", self.file())
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("DONT_FAKE_MONOTONIC", "1")
            .env("NO_FAKE_STAT", "1");
    }

    /// Removes the shared memory that libfaketime leaves after a kill.
    pub fn clean_up_after(process: u32) {
        for name in ["faketime_shm_", "sem.faketime_sem_"] {
            // The file is absent if the process ran without a fake clock, or ended in order.
            let _ = fs::remove_file(format!("/dev/shm/{name}{process}"));
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("offset")
    }
}
