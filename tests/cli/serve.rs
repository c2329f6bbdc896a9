//! `likewise serve`: the sources of its settings, and the reasons why it refuses to start.

use std::fs;
use std::net::TcpListener;

use crate::support::service::Setup;

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
    for (variable, value) in [
        ("LIKEWISE_MAILBOX_CAPACITY", "0"),
        ("LIKEWISE_BATCH_SIZE", "0"),
        ("LIKEWISE_LEASE_SECONDS", "0"),
        ("LIKEWISE_MAX_RETRIES", "-1"),
    ] {
        let ran = Setup::new().set(variable, value).run(&["serve"]);
        ran.exits(1);
        let expected = format!("{variable} must be between");
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
