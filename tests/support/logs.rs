//! The logs of the program under test. The folder of a setup has one for each of its processes.

use std::fs;
use std::path::Path;

/// Returns the lines of a log that contain this text.
#[track_caller]
pub fn lines_with(log: &Path, text: &str) -> Vec<String> {
    let log = fs::read_to_string(log).expect("a log in text");
    let lines = log.lines().filter(|line| line.contains(text));
    lines.map(str::to_owned).collect()
}

/// Returns the lines that contain this text in the logs of all processes of the setup with this folder, also of those that
/// have ended.
#[track_caller]
pub fn logged_in(folder: &Path, text: &str) -> Vec<String> {
    let files = fs::read_dir(folder).expect("a folder");
    let paths = files.map(|file| file.expect("a file").path());
    let logs = paths.filter(|path| path.file_stem().is_some_and(|name| name == "stderr"));
    logs.flat_map(|log| lines_with(&log, text)).collect()
}
