//! The user of the command line: the name for the record, and the answer to a question.

use std::io::{self, IsTerminal, Write, stdin};

/// The name of this command line's user, for the record.
pub(super) fn operator() -> String {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let user = variable("USER").or_else(|| variable("LOGNAME"));
    let host = std::fs::read_to_string("/etc/hostname").ok();
    let host = host.map(|host| host.trim().to_owned());
    match (user, host.filter(|host| !host.is_empty())) {
        (Some(user), Some(host)) => format!("{user}@{host}"),
        (Some(user), None) => user,
        (None, Some(host)) => format!("somebody@{host}"),
        (None, None) => "somebody".to_owned(),
    }
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unconfirmed {
    /// Standard input is no terminal.
    #[error("cannot ask for confirmation without a terminal; pass --yes")]
    NoTerminal,
    /// The terminal failed.
    #[error("cannot ask for confirmation: {0}")]
    Io(#[from] io::Error),
}

/// Asks on standard error whether to do it, because standard output may be read by a program. Says so if not.
///
/// # Errors
/// If standard input is no terminal.
pub(super) fn confirmed(question: &str) -> Result<bool, Unconfirmed> {
    if !stdin().is_terminal() {
        return Err(Unconfirmed::NoTerminal);
    }
    let mut out = io::stderr().lock();
    write!(out, "{question} [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    stdin().read_line(&mut answer)?;
    let confirmed = matches!(answer.trim(), "y" | "Y" | "yes");
    if !confirmed {
        writeln!(out, "nothing was changed")?;
    }
    Ok(confirmed)
}
