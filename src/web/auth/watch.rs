//! Reads keys and tokens again: when their files change, on SIGHUP, at intervals from a URL, and when a token names a key
//! that is not known yet.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::signal::unix::Signal;

use super::policy::Auth;
use crate::telemetry::{CredentialsKept, CredentialsRead};

/// The interval between two looks at the files.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The shortest time between two fetches of a key set: unknown keys in tokens must not become a flood of requests to the
/// identity provider.
const FETCH_AT_MOST_EVERY: Duration = Duration::from_secs(10);

/// Watches until the process ends. `hangup` is SIGHUP.
pub async fn watch(auth: Arc<Auth>, mut hangup: Signal) {
    let refresh = auth.options().jwt_jwks_url.is_some();
    let mut fetched = Instant::now();
    let mut files = stamps(&auth);
    let mut said = Vec::new();
    loop {
        let is_asked = tokio::select! {
            _ = hangup.recv() => true,
            () = auth.unknown_key(), if refresh => {
                let pause = FETCH_AT_MOST_EVERY.saturating_sub(fetched.elapsed());
                tokio::time::sleep(pause).await;
                true
            }
            () = tokio::time::sleep(LOOK_EVERY) => false,
        };
        let now = stamps(&auth);
        let is_due = refresh && fetched.elapsed() >= auth.options().jwt_jwks_refresh;
        if !is_asked && !is_due && now == files {
            continue;
        }
        files = now;
        let fetches = refresh && (is_asked || is_due);
        if fetches {
            fetched = Instant::now();
        }
        let reader = Arc::clone(&auth);
        let read = tokio::task::spawn_blocking(move || reader.reload(fetches)).await;
        let Ok((is_changed, errors)) = read else {
            continue;
        };
        if is_changed {
            CredentialsRead.emit();
        }
        // Files that were not looked at again say nothing about an earlier error of the URL.
        if errors.is_empty() && refresh && !fetches {
            continue;
        }
        for error in &errors {
            if !said.contains(error) {
                CredentialsKept { error }.emit();
            }
        }
        said = errors;
    }
}

/// When each file was last written, and its size.
fn stamps(auth: &Auth) -> Vec<Option<(SystemTime, u64)>> {
    let options = auth.options();
    let files: [&Option<PathBuf>; 3] = [
        &options.tokens_file,
        &options.jwt_secret_file,
        &options.jwt_jwks_file,
    ];
    let stamp = |path: &PathBuf| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    files
        .into_iter()
        .map(|path| path.as_ref().and_then(stamp))
        .collect()
}
