//! `likewise top`: the console in a terminal. [`model`] keeps what is known and shown, [`keys`] and updates change it,
//! [`view`] draws it, and [`client`] asks the service.

mod answers;
mod client;
mod keys;
mod model;
mod problems;
mod processes;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
mod view;

use std::io::{IsTerminal, stdin, stdout};
use std::process::ExitCode;
use std::thread::JoinHandle;
use std::time::Duration;

use chrono::Utc;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::{MissedTickBehavior, interval};

use self::keys::{Effect, press};
use self::model::Model;
use super::Failure;
use super::reports::Session;
use super::service::{Service, ServiceArgs};
use crate::config::Settings;

/// The longest wait for a report. A service that takes longer is away.
const REPORT_TIMEOUT: Duration = Duration::from_secs(3);

/// The longest wait for a figure, or for what comes of an operation.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The most updates and keys that wait to be drawn.
const WAITING: usize = 64;

/// Arguments of `likewise top`.
#[derive(Debug, clap::Args)]
pub(super) struct TopArgs {
    /// Do not use colours; NO_COLOR does the same
    #[arg(long)]
    no_color: bool,
    #[command(flatten)]
    service: ServiceArgs,
}

/// Shows the service until the operator quits.
pub(super) async fn run(settings: &Settings, arguments: &TopArgs) -> Result<ExitCode, Failure> {
    if !stdin().is_terminal() || !stdout().is_terminal() {
        return Err(Failure::NoTerminal);
    }
    let service = Service::new(settings, &arguments.service, REPORT_TIMEOUT)?;
    let patient = Service::new(settings, &arguments.service, TIMEOUT)?;
    // A wrong address or token is told before the screen changes. A service that goes away later may return.
    let session: Session = service.get("/admin/session")?;
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let model = Model {
        url: service.url().to_string(),
        now: Utc::now(),
        has_colour: !arguments.no_color && !no_color,
        session,
        ..Model::default()
    };
    // Log lines would tear the screen; a panic, which restores it, is an error.
    log::set_max_level(log::max_level().min(log::LevelFilter::Error));
    let terminal = ratatui::try_init();
    let shown = match terminal {
        Ok(terminal) => show(terminal, model, service, patient).await,
        Err(error) => Err(error.into()),
    };
    let restored = ratatui::try_restore();
    shown?;
    restored?;
    Ok(ExitCode::SUCCESS)
}

/// Draws the model after each update and key, until the operator or a signal ends it.
async fn show(
    mut terminal: DefaultTerminal,
    mut model: Model,
    service: Service,
    patient: Service,
) -> Result<(), Failure> {
    let (sender, mut updates) = mpsc::channel(WAITING);
    let mut threads = vec![
        client::follow_reports(service, sender.clone())?,
        client::follow_figures(patient.clone(), sender.clone())?,
    ];
    let mut keys = terminal_events()?;
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut closed = signal(SignalKind::hangup())?;
    // Ages grow while nothing arrives.
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        model.now = Utc::now();
        terminal.draw(|frame| view::draw(frame, &model))?;
        let effect = tokio::select! {
            update = updates.recv() => {
                // This function holds a sender.
                if let Some(update) = update {
                    model.apply(update);
                }
                while let Ok(update) = updates.try_recv() {
                    model.apply(update);
                }
                None
            }
            event = keys.recv() => match event {
                Some(Event::Key(key)) if key.kind != KeyEventKind::Release => press(&mut model, key),
                Some(_) => None,
                // The terminal is closed.
                None => Some(Effect::Quit),
            },
            _ = seconds.tick() => {
                panic_with_a_thread(&mut threads);
                None
            }
            _ = terminated.recv() => Some(Effect::Quit),
            _ = interrupted.recv() => Some(Effect::Quit),
            _ = closed.recv() => Some(Effect::Quit),
        };
        match effect {
            None => {}
            Some(Effect::Quit) => return Ok(()),
            Some(Effect::Operate(operation)) => {
                client::operate(patient.clone(), operation, sender.clone())?;
            }
        }
    }
}

/// Panics if one of these threads has: its panic has restored the terminal, so that nothing more can be drawn.
fn panic_with_a_thread(threads: &mut Vec<JoinHandle<()>>) {
    for thread in threads.extract_if(.., |thread| thread.is_finished()) {
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

/// Reads keys and changes of the size in a thread of its own, which ends with the process or the terminal.
fn terminal_events() -> std::io::Result<Receiver<Event>> {
    let (sender, events) = mpsc::channel(WAITING);
    let read = move |sender: Sender<Event>| {
        while let Ok(event) = event::read() {
            if sender.blocking_send(event).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name("keys".to_owned())
        .spawn(move || read(sender))?;
    Ok(events)
}
