//! `likewise config` shows and checks the settings. An unknown setting is an error at the start.

use serde_json::Value;

use crate::support::servers::{Kind, Server};
use crate::support::service::Setup;

#[test]
fn unknown_variable_is_an_error_with_a_suggestion() {
    let setup = Setup::new()
        .set("LIKEWISE_DATABASE_ULR", "mysql://likewise@db/likewise")
        .set("LIKEWISE_TEST_ANYTHING", "1")
        .set("LIKEWISE_PORT", "tcp://10.0.0.1:8080");
    for command in ["serve", "migrate", "verify"] {
        let ran = setup.run(&[command]);
        ran.exits(1);
        let said = "LIKEWISE_DATABASE_ULR (did you mean LIKEWISE_DATABASE_URL?)";
        ran.reports(said);
        assert!(!ran.stderr.contains("LIKEWISE_PORT"), "{}", ran.stderr);
    }
    let database = setup.folder().join("likewise.db");
    assert!(!database.exists(), "it created a database");
}

#[test]
fn unknown_key_of_the_file_suggests_the_setting() {
    let setup = Setup::new();
    setup.write("likewise.toml", "batch_sise = 8");
    let ran = setup.run(&["migrate"]);
    ran.exits(1);
    let said = "there is no setting batch_sise; did you mean batch_size?";
    ran.reports(said);
}

/// The report of `config --json`, and its exit code.
#[track_caller]
fn report(setup: &Setup, arguments: &[&str]) -> (Value, Option<i32>) {
    let ran = setup.run(&[&["config", "--json"], arguments].concat());
    let report = serde_json::from_str(&ran.stdout);
    let report = report.unwrap_or_else(|_| panic!("no JSON: {ran:?}"));
    (report, ran.code)
}

#[track_caller]
fn setting<'a>(report: &'a Value, variable: &str) -> (&'a Value, &'a str) {
    let settings = report["settings"].as_array().expect("settings");
    let mut settings = settings.iter();
    let setting = settings.find(|setting| setting["variable"] == variable);
    let setting = setting.unwrap_or_else(|| panic!("{variable} is missing"));
    (&setting["value"], setting["source"].as_str().expect("text"))
}

#[test]
fn config_shows_values_and_sources_without_secrets() {
    let setup = Setup::new()
        .set("LIKEWISE_REDIS_URL", "redis://:hush@127.0.0.1:6379/0")
        .set("LIKEWISE_ADMIN_TOKEN", "hush-hush-hush-hush")
        .set("LIKEWISE_BATCH_SIZE", 9)
        .set("LIKEWISE_MAX_RETRIES", 4);
    let file = "batch_size = 8\nlease_seconds = 20\njwt_secret = \"hush\"";
    setup.write("likewise.toml", file);
    let (report, code) = report(&setup, &["--max-retries", "5"]);
    assert_eq!(code, Some(0), "{report:#}");
    assert_eq!(report["valid"], true);
    for (variable, value, source) in [
        ("LIKEWISE_MAX_RETRIES", "5", "flag"),
        ("LIKEWISE_BATCH_SIZE", "9", "environment"),
        ("LIKEWISE_LEASE_SECONDS", "20", "file"),
        ("LIKEWISE_CACHE_PAIRS", "1000000", "default"),
        ("LIKEWISE_ADMIN_TOKEN", "***", "environment"),
        ("LIKEWISE_JWT_SECRET", "***", "file"),
    ] {
        assert_eq!(setting(&report, variable), (&value.into(), source));
    }
    let redis = "redis://:***@127.0.0.1:6379/0".into();
    assert_eq!(
        setting(&report, "LIKEWISE_REDIS_URL"),
        (&redis, "environment")
    );
    assert_eq!(
        setting(&report, "LIKEWISE_NATS_URL"),
        (&Value::Null, "default")
    );
    assert!(!report.to_string().contains("hush"), "{report:#}");
    let table = setup.run(&["config"]).stdout;
    assert!(table.contains("the settings are valid"), "{table}");
    assert!(!table.contains("hush"), "{table}");
}

#[test]
fn config_reports_why_the_service_cannot_start() {
    let problems = |setup: Setup, arguments: &[&str], said: &str| {
        let (report, code) = report(&setup, arguments);
        assert_eq!(code, Some(1), "{report:#}");
        assert_eq!(report["valid"], false);
        assert!(report["problems"].to_string().contains(said), "{report:#}");
    };
    for (variable, value, said) in [
        (
            "LIKEWISE_BATCHSIZE",
            "9",
            "did you mean LIKEWISE_BATCH_SIZE?",
        ),
        ("LIKEWISE_HTTP_ADDR", "0.0.0.0:0", "refusing to listen"),
        (
            "LIKEWISE_TOKENS_FILE",
            "/nowhere/tokens.toml",
            "/nowhere/tokens.toml",
        ),
    ] {
        problems(Setup::new().set(variable, value), &[], said);
    }
    problems(Setup::new(), &["--batch-size", "0"], "between 1 and 10000");
    for (variable, kind) in [
        ("LIKEWISE_DATABASE_URL", Kind::MariaDb),
        ("LIKEWISE_REDIS_URL", Kind::Redis),
        ("LIKEWISE_NATS_URL", Kind::Nats),
    ] {
        let mut server = Server::start(kind);
        let setup = || Setup::new().set(variable, server.url());
        let (reached, code) = report(&setup(), &["--check"]);
        assert_eq!(code, Some(0), "{reached:#}");
        let gone = setup();
        server.kill();
        problems(gone, &["--check"], variable);
    }
}
