//! The paths of servers and of other programs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::ServerError;

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
        let mut found = script
            .as_deref()
            .map_or_else(Self::default, Self::of_script);
        let others = std::env::vars().filter(|(name, _)| name.starts_with("LIKEWISE_TEST_"));
        found
            .0
            .extend(others.map(|(name, path)| (name, PathBuf::from(path))));
        found
    }

    /// Returns the programs that this `scripts/services` finds; none if it cannot run.
    fn of_script(script: &Path) -> Self {
        let Ok(ran) = Command::new(script).arg("env").output() else {
            return Self::default();
        };
        let printed = String::from_utf8_lossy(&ran.stdout);
        let lines = printed.lines().filter_map(|line| {
            let (name, value) = line.strip_prefix("export ")?.split_once('=')?;
            let path = PathBuf::from(value.trim_matches('\''));
            Some((name.to_owned(), path))
        });
        Self(lines.collect())
    }

    /// Returns the path that a variable names.
    ///
    /// # Errors
    /// [`ServerError::Unknown`].
    pub fn get(&self, variable: &str) -> Result<&Path, ServerError> {
        let path = self.0.get(variable).map(PathBuf::as_path);
        path.ok_or_else(|| ServerError::Unknown {
            variable: variable.to_owned(),
        })
    }
}
