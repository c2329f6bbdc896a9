//! `likewise top`, in a terminal of its own, against a real service.

use std::time::Instant;

use crate::support::service::{Service, Setup, Signal};
use crate::support::terminal::Terminal;
use crate::support::{say, tokens};

const SIZE: (u16, u16) = (120, 40);

/// A service in which actors can be made to fail.
fn service() -> Service {
    Setup::new().set("LIKEWISE_FAULT_INJECTION", true).start()
}

/// Starts the program, and waits for the first report.
#[track_caller]
fn top(service: &Service, flags: &[&str]) -> Terminal {
    let url = service.url();
    let arguments = [&["top", "--url", &url][..], flags].concat();
    let mut terminal = Terminal::start(service.setup(), &arguments, SIZE);
    terminal.until_has("cache_writer");
    terminal
}

/// Whether the line of an actor in the table has this text.
fn has_actor(screen: &str, actor: &str, text: &str) -> bool {
    let begin = format!(" {actor} ");
    let mut lines = screen.lines();
    lines.any(|line| line.starts_with(&begin) && line.contains(text))
}

/// Waits until the line of an actor in the table has this text.
#[track_caller]
fn until_actor(terminal: &mut Terminal, actor: &str, text: &str) {
    let what = format!("{actor} with {text:?}");
    terminal.until_shown(&what, |screen| has_actor(screen, actor, text));
}

/// Fails unless the program ended in order, and left the terminal as it was.
#[track_caller]
fn ended_in_order(mut terminal: Terminal) {
    let status = terminal.wait();
    assert!(status.success(), "{status}");
    terminal.is_restored();
}

#[test]
fn top_shows_actors_that_block_or_panic() {
    let service = service();
    let mut terminal = top(&service, &[]);
    let blocked = Instant::now();
    let mut keep_blocked = service.client().keep_blocked("sync_publisher");
    terminal.until_shown("sync_publisher as stuck", |screen| {
        keep_blocked();
        has_actor(screen, "sync_publisher", "✗ stuck")
            && screen.contains("sync_publisher is stuck: it blocks its thread")
    });
    say(format_args!(
        "the blocked actor showed after {:?}",
        blocked.elapsed()
    ));
    until_actor(&mut terminal, "sync_publisher", "● running");

    service.client().provoke("cache_writer");
    service.client().like(1, 1);
    terminal.until_has("cache_writer panicked 1 time in the last");
    terminal.press("q");
    ended_in_order(terminal);
}

#[test]
fn top_restores_the_terminal_however_it_ends() {
    let service = service();
    for ending in ["q", "Ctrl-C", "SIGTERM", "SIGHUP"] {
        say(format_args!("{ending}"));
        let terminal = top(&service, &[]);
        match ending {
            "Ctrl-C" => terminal.press("\x03"),
            "SIGTERM" => terminal.signal(Signal::TERM),
            "SIGHUP" => terminal.signal(Signal::HUP),
            key => terminal.press(key),
        }
        ended_in_order(terminal);
    }
}

#[test]
fn top_shows_a_service_that_is_away_and_its_return() {
    let service = service();
    let address = service.address();
    let mut terminal = top(&service, &[]);
    let setup = service.kill();
    let screen = terminal.until_has("AWAY for ");
    // The last report stays.
    assert!(screen.contains("cache_writer"), "{screen}");
    let service = setup.set("LIKEWISE_HTTP_ADDR", address).start();
    terminal.until_shown("the service again", |screen| !screen.contains("AWAY"));
    service.client().like(1, 1);
    terminal.until_shown("the completed like", |screen| {
        screen.contains("completed 1 ")
    });
    terminal.press("q");
    ended_in_order(terminal);
}

#[test]
fn top_pauses_and_resumes_after_a_question() {
    let service = service();
    let mut terminal = top(&service, &[]);
    let state = |name: &str| service.client().actor(name).state;
    terminal.press("/retry_sch\r");
    terminal.until_has("with \"retry_sch\"");
    terminal.press("p");
    terminal.until_has("pause retry_scheduler on ");
    terminal.press("n");
    terminal.until_has("nothing was changed");
    assert_eq!(state("retry_scheduler"), "running");
    terminal.press("py");
    // An operation has its effect before it is answered, and only then another one is taken.
    terminal.until_has(": done");
    until_actor(&mut terminal, "retry_scheduler", "! paused");
    assert_eq!(state("retry_scheduler"), "paused");
    terminal.press("\r");
    terminal.until_has("reason         paused by ");
    terminal.press("uy");
    terminal.until_has("resume retry_scheduler on ");
    let resumed = || state("retry_scheduler");
    crate::support::until_equal("the actor to be resumed", "running".to_owned(), resumed);
    terminal.press("q");
    ended_in_order(terminal);
}

#[test]
fn top_offers_readers_no_operation() {
    let setup = Setup::new();
    let watcher = tokens::service_token("watcher", "lkw_watcher", &["admin:read"]);
    setup.write("tokens.toml", watcher);
    setup.write("token", "lkw_watcher");
    let service = setup.set("LIKEWISE_TOKENS_FILE", "tokens.toml").start();
    let mut terminal = top(&service, &["--token-from", "token"]);
    let screen = terminal.until_has("read only");
    assert!(!screen.contains("restart"), "{screen}");
    terminal.press("r");
    terminal.until_has("it lacks the scope admin:operate");
    terminal.press("q");
    ended_in_order(terminal);
}

#[test]
fn top_follows_the_size_of_its_terminal() {
    let service = service();
    let mut terminal = top(&service, &[]);
    let has_percentiles = |screen: &str| {
        let mut titles = screen.lines().filter(|line| line.starts_with(" actor "));
        titles.next().map(|titles| titles.contains(" p99 "))
    };
    terminal.until_shown("the wide table", |screen| {
        has_percentiles(screen) == Some(true)
    });
    terminal.resize(70, 20);
    terminal.until_shown("fewer columns", |screen| {
        has_percentiles(screen) == Some(false)
    });
    terminal.resize(30, 8);
    terminal.until_has("too small");
    terminal.press("q");
    ended_in_order(terminal);
}

#[test]
fn top_needs_a_terminal_and_a_service() {
    let service = Setup::new().start();
    let url = service.url();
    let arguments = ["top", "--url", &url];
    let ran = service.setup().run(&arguments);
    ran.exits(1).reports("this needs a terminal");
    let setup = service.stop();
    let mut terminal = Terminal::start(&setup, &arguments, SIZE);
    assert_eq!(terminal.wait().code(), Some(1));
    terminal.is_restored();
}
