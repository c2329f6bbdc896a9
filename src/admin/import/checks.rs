//! What an import refuses before it begins.

use super::options::ImportOptions;
use crate::admin::{AdminError, Dependencies};
use crate::domain::Source;

/// Refuses the names of sources that have a meaning of their own.
pub(super) fn check_source(source: &str) -> Result<(), AdminError> {
    let taken = [Source::API, Source::ADMIN, "legacy", "audit"];
    let is_usable = (1..=Source::MAX_LENGTH).contains(&source.len())
        && !source.chars().any(char::is_control)
        && !taken.contains(&source);
    match is_usable {
        true => Ok(()),
        false => Err(AdminError::Invalid(format!(
            "'{source}' is not a usable source: use 1 to {} bytes, but none of {}",
            Source::MAX_LENGTH,
            taken.join(", ")
        ))),
    }
}

/// Refuses to import behind the back of a cache: after a commit, the cache must be told.
pub(super) async fn check_caches(
    dependencies: &Dependencies,
    options: &ImportOptions,
) -> Result<(), AdminError> {
    if options.dry_run {
        return Ok(());
    }
    for process in dependencies.store.running_processes().await? {
        let who = format!("{} (role {})", process.host, process.role);
        match process.cache.as_str() {
            "none" if process.role == "worker" || options.stale_caches => {}
            "none" => {
                return Err(AdminError::Conflict(format!(
                    "a service on this database caches in its own memory, which an import cannot reach, so it would \
                     show old likes and counts: {who}, seen within the last 45 seconds. Stop it first; or import all \
                     the same with --stale-caches, and it drops its cache when the import ends"
                )));
            }
            _ if dependencies.cache.is_none() => {
                return Err(AdminError::Conflict(format!(
                    "a service on this database caches in Redis, and this command has none, so the service would show \
                     old likes and counts: {who}. Set the service's LIKEWISE_REDIS_URL"
                )));
            }
            _ => {}
        }
    }
    Ok(())
}
