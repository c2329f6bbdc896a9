//! `likewise migrate`: applies missing migrations.

use std::io::Write;
use std::process::ExitCode;

use super::Failure;
use crate::config::Settings;
use crate::store;

pub(super) async fn run(settings: Settings) -> Result<ExitCode, Failure> {
    let ran = store::migrate(&settings.store).await?;
    let mut out = std::io::stdout().lock();
    for migration in &ran {
        writeln!(out, "migrated {migration}")?;
    }
    writeln!(
        out,
        "{} is up to date",
        settings.store.url_without_password()
    )?;
    Ok(ExitCode::SUCCESS)
}
