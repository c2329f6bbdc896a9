//! `likewise serve`: the sources of its settings, the reasons why it refuses to start, and its exit.

use std::fs;
use std::net::TcpListener;
use std::thread;
use std::time::Instant;

use rustix::fs::{CWD, Mode, OFlags, mkfifoat, open};

use crate::support::checks::pipeline_drains;
use crate::support::service::{Setup, Signal};
use crate::support::{PATIENCE, until};

#[test]
fn occupied_port_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let setup = Setup::new().set("LIKEWISE_HTTP_ADDR", &address);
    let ran = setup.run(&["serve"]);
    ran.exits(1);
    let expected = format!("cannot listen on {address}");
    ran.reports(&expected).reports("LIKEWISE_HTTP_ADDR");
}

#[test]
fn process_without_its_port_does_nothing() {
    let service = Setup::new().start();
    let setup = Setup::new()
        .set("LIKEWISE_HTTP_ADDR", service.address())
        .set("LIKEWISE_LOG_FORMAT", "json");
    let ran = setup.run(&["serve"]);
    ran.exits(1).reports("cannot listen on");
    let lines = ran.stderr.lines();
    let errors = lines.filter(|line| line.contains(r#""level":"error""#));
    assert_eq!(errors.count(), 1, "{ran:?}");
    assert!(!ran.stderr.contains("panic"), "{ran:?}");
    let database = setup.folder().join("likewise.db");
    assert!(!database.exists(), "it has opened its database");
}

#[test]
fn unusable_settings_file_is_named() {
    let setup = Setup::new();
    // Reading a folder fails even for root.
    fs::create_dir(setup.folder().join("likewise.toml")).expect("a folder");
    for command in ["serve", "migrate", "verify"] {
        let ran = setup.run(&[command]);
        ran.exits(1).reports("cannot read likewise.toml");
    }

    for (text, complaint) in [
        ("batch_sise = 8", "batch_sise"),
        ("batch_size = 'many'", "batch_size"),
        ("batch_size =", "not a valid settings file"),
        ("batch_size = 0", "LIKEWISE_BATCH_SIZE must be between"),
    ] {
        let setup = Setup::new();
        fs::write(setup.folder().join("likewise.toml"), text).expect("a file");
        let ran = setup.run(&["serve"]);
        ran.exits(1);
        assert!(
            ran.stderr.contains(complaint),
            "{complaint} is not in {ran:?}"
        );
    }
}

#[test]
fn flag_overrides_environment_overrides_file() {
    let capacity = |setup: Setup, flags: &[&str]| {
        let service = setup.start_as(flags);
        service.client().actor("behavior_recorder").mailbox.capacity
    };
    let with_file = || {
        let setup = Setup::new();
        fs::write(
            setup.folder().join("likewise.toml"),
            "mailbox_capacity = 111\n",
        )
        .expect("a file");
        setup
    };
    let with_both = || with_file().set("LIKEWISE_MAILBOX_CAPACITY", 222);
    let flag = ["--mailbox-capacity", "333"];
    assert_eq!(capacity(with_file(), &[]), 111);
    assert_eq!(capacity(with_both(), &[]), 222);
    assert_eq!(capacity(with_both(), &flag), 333);
}

#[test]
fn out_of_range_setting_is_named() {
    let days = "0 or between 1 and 36500";
    for (variable, value, expected) in [
        ("LIKEWISE_MAILBOX_CAPACITY", "0", "between"),
        ("LIKEWISE_BATCH_SIZE", "0", "between"),
        ("LIKEWISE_LEASE_SECONDS", "0", "between"),
        ("LIKEWISE_MAX_RETRIES", "-1", "between"),
        ("LIKEWISE_RETENTION_LEDGER_DAYS", "36501", days),
        ("LIKEWISE_RETENTION_BEHAVIORS_DAYS", "36501", days),
    ] {
        let ran = Setup::new().set(variable, value).run(&["serve"]);
        ran.exits(1);
        let expected = format!("{variable} must be {expected}");
        ran.reports(&expected).reports(&format!("got {value}"));
    }
}

#[test]
fn default_command_serves_from_sqlite_in_its_folder() {
    let setup = Setup::new().set("LIKEWISE_DATABASE_URL", "sqlite://likewise.db");
    let service = setup.start_as(&[]);
    service.client().like(1, 1);
    let setup = service.stop();
    assert!(setup.folder().join("likewise.db").exists());
    setup.verify(0).holds();
}

#[test]
fn process_exits_while_its_threads_wait() {
    let setup = Setup::new()
        .set("LIKEWISE_WEBHOOK_URLS", "http://127.0.0.1:1/")
        .set("LIKEWISE_WEBHOOK_SECRET_FILE", "secret");
    setup.write("secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let mut service = setup.start();
    let secret = service.setup().folder().join("secret");
    let pipe = secret.with_file_name("pipe");
    mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).expect("a pipe");
    fs::rename(&pipe, &secret).expect("the pipe in place of the file");
    service.client().like(1, 7);
    // The thread that reads the secret before it posts the like waits as long as this end is open.
    let unwritten = until("a thread to read the secret", PATIENCE, || {
        open(&secret, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty())
    });
    pipeline_drains(&service);
    // Another thread waits for the lock of the database.
    let held = service.database().hold_writes();
    let client = service.client();
    let liking = thread::spawn(move || client.try_like("PUT", 2, 7));
    service.client().until_depth("behavior_recorder", 1);
    let signalled = Instant::now();
    service.signal(Signal::TERM);
    service.until_logged("shutting down");
    // The shutdown waits for the actors, and the actors wait for their threads, until a second signal.
    service.signal(Signal::TERM);
    assert!(service.wait(PATIENCE).success());
    let took = signalled.elapsed().as_secs_f64();
    let stopped = service.logged("likewise] stopped");
    let [line] = &stopped[..] else {
        panic!("{stopped:#?}");
    };
    let logged = line.split_once("seconds=").expect("a duration").1;
    let logged = logged.split_whitespace().next().expect("a number");
    let logged: f64 = logged.parse().expect("a number");
    assert!(
        logged > 0.0 && logged <= took,
        "{took} s, in the log {logged} s"
    );
    drop((held, unwritten));
    drop(liking.join());
}
