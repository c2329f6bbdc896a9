//! Asks the service again and again, in threads of their own: a request blocks its thread. Reports and figures have a thread
//! each, because figures wait for dependencies that hang, and reports must not.

use std::io;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use tokio::sync::mpsc::Sender;

use super::answers::{History, Ledger, Readiness};
use super::model::{Figures, Operation, Update};
use crate::cli::reports::{ActorReport, DeploymentReport, Session};
use crate::cli::service::{Service, ServiceError, encoded};

/// The interval between two reports. An actor that blocks is reported after a second, and by another process a quarter of a
/// second later; so it shows within two.
const REPORTS: Duration = Duration::from_millis(700);

/// The interval between two rounds of figures, which ask the database.
const FIGURES: Duration = Duration::from_secs(2);

/// The time in which completion times are looked for.
const RECENTLY: TimeDelta = TimeDelta::minutes(1);

/// Sends reports until the receiver is dropped.
pub(super) fn follow_reports(
    service: Service,
    updates: Sender<Update>,
) -> io::Result<JoinHandle<()>> {
    let mut is_away = false;
    every("reports", REPORTS, move || {
        let update = match service.get::<DeploymentReport>("/admin/actors?scope=cluster") {
            Ok(report) => Update::Report(Box::new(report)),
            Err(error) => Update::Away(reason(&error)),
        };
        // A service that returns may have other tokens.
        let was_away = std::mem::replace(&mut is_away, matches!(update, Update::Away(_)));
        if was_away
            && !is_away
            && let Ok(session) = service.get::<Session>("/admin/session")
        {
            updates.blocking_send(Update::Session(session)).ok()?;
        }
        updates.blocking_send(update).ok()
    })
}

/// Sends figures every two seconds until the receiver is dropped.
pub(super) fn follow_figures(
    service: Service,
    updates: Sender<Update>,
) -> io::Result<JoinHandle<()>> {
    every("figures", FIGURES, move || {
        // A process that is not ready answers too.
        let readiness: Option<Readiness> = service.get_with("/readyz", &[503]).ok();
        let ledger: Option<Ledger> = service.get("/admin/ledger").ok();
        let history: Option<History> = service.get(&history_path(Utc::now())).ok();
        let figures = Figures {
            readiness,
            ledger,
            completion: history.and_then(|history| history.newest()),
        };
        updates
            .blocking_send(Update::Figures(Box::new(figures)))
            .ok()
    })
}

/// Carries out an operation, and sends what came of it.
pub(super) fn operate(
    service: Service,
    operation: Operation,
    updates: Sender<Update>,
) -> io::Result<()> {
    let work = move || {
        let Operation {
            action,
            place,
            host,
        } = operation;
        let (action, actor) = (action.as_str(), &place.actor);
        let path = format!(
            "/admin/actors/{}/{action}?process={}",
            encoded(actor),
            encoded(&place.process)
        );
        let outcome = match service.post::<ActorReport>(&path) {
            Ok(_) => Ok(format!("{action} {actor} on {host}: done")),
            Err(error) => Err(format!("{action} {actor} on {host}: {}", reason(&error))),
        };
        // The terminal may be closed meanwhile.
        let _ = updates.blocking_send(Update::Operated(outcome));
    };
    thread::Builder::new()
        .name("operation".to_owned())
        .spawn(work)?;
    Ok(())
}

/// Does something in a thread at this interval, or as soon as possible, until it returns `None`.
fn every(
    name: &str,
    interval: Duration,
    mut work: impl FnMut() -> Option<()> + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let repeat = move || {
        loop {
            let began = Instant::now();
            if work().is_none() {
                return;
            }
            thread::sleep(interval.saturating_sub(began.elapsed()));
        }
    };
    thread::Builder::new().name(name.to_owned()).spawn(repeat)
}

/// Returns the path of the last points, of a minute each.
fn history_path(now: DateTime<Utc>) -> String {
    let since = (now - RECENTLY).to_rfc3339_opts(SecondsFormat::Secs, true);
    format!("/admin/history?step=60&since={}", encoded(&since))
}

/// Returns why there is no answer. The address stands on the screen already.
fn reason(error: &ServiceError) -> String {
    match error {
        ServiceError::Unreachable { reason, .. } => reason.to_string(),
        other => other.to_string(),
    }
}
