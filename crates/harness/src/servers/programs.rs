//! The paths of servers and of other programs.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::ServerError;
use crate::io_error::doing;

/// The paths of programs, by the variables that name them.
#[derive(Debug, Default)]
pub struct Programs(BTreeMap<String, PathBuf>);

impl Programs {
    /// Finds the programs: those that `scripts/services env` prints, and those that the environment names. The script is
    /// that of the repository around the current folder or this program.
    #[must_use]
    pub fn find() -> Self {
        let folders = [std::env::current_dir(), std::env::current_exe()];
        let script = folders.into_iter().flatten().find_map(|folder| {
            let mut scripts = folder.ancestors().map(|one| one.join("scripts/services"));
            scripts.find(|script| script.is_file())
        });
        // Without the script, the environment may name the programs.
        let of_script = script.and_then(|script| Self::of_script(&script).ok());
        let mut found = of_script.unwrap_or_default();
        let named = std::env::vars_os().filter_map(|(name, path)| {
            let name = name.into_string().ok()?;
            let is_program = name.starts_with("LIKEWISE_TEST_");
            is_program.then(|| (name, PathBuf::from(path)))
        });
        found.0.extend(named);
        found
    }

    /// Returns the programs that this `scripts/services` finds.
    ///
    /// # Errors
    /// If the script cannot run, or fails.
    pub fn of_script(script: &Path) -> Result<Self, ServerError> {
        let running = || doing(format!("running {} env", script.display()));
        let ran = Command::new(script)
            .arg("env")
            .output()
            .map_err(running())?;
        if !ran.status.success() {
            let said = String::from_utf8_lossy(&ran.stderr);
            let reason = format!("{}: {}", ran.status, said.trim_end());
            return Err(running()(io::Error::other(reason)).into());
        }
        let printed = String::from_utf8_lossy(&ran.stdout);
        let lines = printed.lines().filter_map(|line| {
            let (name, value) = line.strip_prefix("export ")?.split_once('=')?;
            let path = PathBuf::from(value.trim_matches('\''));
            Some((name.to_owned(), path))
        });
        Ok(Self(lines.collect()))
    }

    /// Returns the path that a variable names.
    #[must_use]
    pub fn get(&self, variable: &str) -> Option<&Path> {
        self.0.get(variable).map(PathBuf::as_path)
    }

    /// Returns the path of a server's program or data that a variable names.
    pub(super) fn require(
        &self,
        what: &'static str,
        variable: &'static str,
    ) -> Result<&Path, ServerError> {
        let path = self.get(variable);
        path.ok_or(ServerError::Unknown { what, variable })
    }
}
