//! Servers that accept connections with TLS only, and only from clients whose certificate their authority has signed:
//! the whole pipeline works on them, and each mistake in the settings is one clear error.

use crate::support::certificates::{Authority, Pair};
use crate::support::checks::ledger_closes;
use crate::support::database::Database;
use crate::support::redis_cluster;
use crate::support::servers::{Kind, Server, Tls};
use crate::support::service::{Ran, Setup};
use crate::support::{PATIENCE, until, until_equal, until_seen};

/// A database server with TLS only, for a host of this name.
struct Stage {
    authority: Authority,
    client: Pair,
    server: Server,
}

/// What a server for this host has from an authority.
#[track_caller]
fn tls(authority: &Authority, host: &str) -> Tls {
    let Pair { cert, key } = authority.sign("server", &[host]);
    let ca = authority.ca();
    Tls { ca, cert, key }
}

impl Stage {
    #[track_caller]
    fn new(kind: Kind, host: &str) -> Self {
        let authority = Authority::new();
        let client = authority.sign("likewise", &["likewise"]);
        let server = Server::with_tls(kind, tls(&authority, host));
        Self {
            authority,
            client,
            server,
        }
    }

    /// The URL with a mode, an authority and perhaps the client's certificate, in the words of the database.
    fn url(&self, mode: &str, authority: &Authority, with_client: bool) -> String {
        let (ssl_mode, ssl_ca) = match self.server.kind() {
            Kind::MariaDb => ("ssl-mode", "ssl-ca"),
            _ => ("sslmode", "sslrootcert"),
        };
        let mode = match (self.server.kind(), mode) {
            (Kind::MariaDb, "verify-full") => "VERIFY_IDENTITY",
            (Kind::MariaDb, "verify-ca") => "VERIFY_CA",
            (_, mode) => mode,
        };
        let mut url = format!("{}?{ssl_mode}={mode}", self.server.url());
        if mode != "disable" {
            url += &format!("&{ssl_ca}={}", authority.ca().display());
        }
        if with_client {
            let Pair { cert, key } = &self.client;
            let ssl = match self.server.kind() {
                Kind::MariaDb => "ssl-",
                _ => "ssl",
            };
            url += &format!("&{ssl}cert={}&{ssl}key={}", cert.display(), key.display());
        }
        url
    }

    /// Restarts the server without TLS, so that the tests can look into its database.
    #[track_caller]
    fn rows(&mut self, sql: &str) -> i64 {
        self.server.without_tls();
        let database = Database::first_of(&self.server).as_administrator();
        database.rows(sql)[0][0].number()
    }
}

fn setup(url: impl ToString) -> Setup {
    Setup::new().set("LIKEWISE_DATABASE_URL", url)
}

/// Likes, unlikes and verifies over the settings of this setup.
#[track_caller]
fn pipeline_works(setup: Setup) {
    setup.run(&["migrate"]).exits(0);
    let service = setup.start();
    let client = service.client();
    client.like(1, 7);
    client.like(2, 7);
    let setup = service.stop();
    setup.verify(60).holds();
}

const LIKES: &str = "SELECT COUNT(*) FROM likewise.video_likes";
const POSTGRES_LIKES: &str = "SELECT COUNT(*) FROM video_likes";

fn verified_connection_runs_the_pipeline(kind: Kind, likes: &str) {
    let mut stage = Stage::new(kind, "127.0.0.1");
    pipeline_works(setup(stage.url("verify-full", &stage.authority, true)));
    assert_eq!(stage.rows(likes), 2);
}

#[test]
fn pipeline_runs_with_mariadb_over_tls() {
    verified_connection_runs_the_pipeline(Kind::MariaDb, LIKES);
}

#[test]
fn pipeline_runs_with_postgres_over_tls() {
    verified_connection_runs_the_pipeline(Kind::Postgres, POSTGRES_LIKES);
}

/// Runs `migrate`, `verify` and `serve`, which are all refused with these words.
#[track_caller]
fn refused(url: &str, words: &[&str]) {
    let setup = setup(url);
    for command in ["migrate", "verify", "serve"] {
        let Ran { code, stderr, .. } = setup.run(&[command]);
        assert_eq!(code, Some(1), "{command} with {url}: {stderr}");
        for said in words {
            assert!(stderr.contains(said), "{command} with {url}: {stderr}");
        }
    }
}

fn mistakes_are_refused(kind: Kind) {
    let stage = Stage::new(kind, "127.0.0.1");
    let stranger = Authority::new();
    for mode in ["verify-full", "verify-ca"] {
        let words = ["not signed by an authority", "LIKEWISE_DATABASE_TLS_CA"];
        refused(&stage.url(mode, &stranger, true), &words);
    }
    refused(
        &stage.url("verify-full", &stage.authority, false),
        &["LIKEWISE_DATABASE_TLS_CERT"],
    );
    refused(
        &stage.url("disable", &stage.authority, false),
        &["TLS only", "LIKEWISE_DATABASE_TLS_MODE"],
    );
    let missing = format!("{}?sslrootcert=/nowhere/ca.pem", stage.server.url());
    refused(&missing, &["/nowhere/ca.pem", "LIKEWISE_DATABASE_TLS_CA"]);
}

#[test]
fn mariadb_over_tls_rejects_wrong_settings() {
    mistakes_are_refused(Kind::MariaDb);
}

#[test]
fn postgres_over_tls_rejects_wrong_settings() {
    mistakes_are_refused(Kind::Postgres);
}

/// A certificate for another host is refused, unless only the authority counts.
fn host_name_is_verified(kind: Kind) {
    let stage = Stage::new(kind, "elsewhere.example");
    refused(
        &stage.url("verify-full", &stage.authority, true),
        &["not valid for name", "elsewhere.example", "verify-ca"],
    );
    let any_host = setup(stage.url("verify-ca", &stage.authority, true));
    any_host.run(&["migrate"]).exits(0);
    let Pair { cert, key } = &stage.client;
    let settings = setup(stage.server.url())
        .set("LIKEWISE_DATABASE_TLS_MODE", "require")
        .set("LIKEWISE_DATABASE_TLS_CERT", cert.display())
        .set("LIKEWISE_DATABASE_TLS_KEY", key.display());
    settings.verify(10).holds();
}

#[test]
fn mariadb_host_name_is_verified() {
    host_name_is_verified(Kind::MariaDb);
}

#[test]
fn postgres_host_name_is_verified() {
    host_name_is_verified(Kind::Postgres);
}

/// A server without TLS is used without it by default, and refused where TLS is required.
#[test]
fn server_without_tls_is_refused_if_tls_is_required() {
    for kind in [Kind::MariaDb, Kind::Postgres] {
        let server = Server::start(kind);
        let required = format!("{}?sslmode=require", server.url());
        refused(&required, &["offers no TLS", "require"]);
        setup(server.url()).run(&["migrate"]).exits(0);
    }
}

/// The next connection uses a renewed client certificate. An unreadable certificate is logged once.
fn renewed_certificate_is_used(kind: Kind) {
    let mut stage = Stage::new(kind, "127.0.0.1");
    let service = setup(stage.url("verify-full", &stage.authority, true)).start();
    let client = service.client();
    client.like(1, 7);
    std::fs::write(&stage.client.cert, "not a certificate").expect("a file");
    let reconnects = |stage: &mut Stage, user: i64| {
        stage.server.stop();
        stage.server.run();
        until("a like after the restart", PATIENCE, || {
            let answer = client.try_like("PUT", user, 7)?;
            (answer.status < 300).then_some(()).ok_or(answer.text)
        });
    };
    reconnects(&mut stage, 2);
    assert_eq!(service.logged("changed certificates are not used").len(), 1);
    stage
        .authority
        .sign_into(&stage.client, "likewise", &["likewise"]);
    reconnects(&mut stage, 3);
    until_equal("the log to say so", 1, || {
        service.logged("certificates read again").len()
    });
    // The worker retries the rows that it could not sync during the outage.
    service.setup().verify(60).holds();
}

#[test]
fn renewed_certificate_of_mariadb_is_used() {
    renewed_certificate_is_used(Kind::MariaDb);
}

#[test]
fn renewed_certificate_of_postgres_is_used() {
    renewed_certificate_is_used(Kind::Postgres);
}

/// Redis and NATS demand client certificates too.
#[test]
fn pipeline_runs_with_redis_and_nats_over_tls() {
    let authority = Authority::new();
    let Pair { cert, key } = authority.sign("likewise", &["likewise"]);
    let redis = Server::with_tls(Kind::Redis, tls(&authority, "127.0.0.1"));
    let nats = Server::with_tls(Kind::Nats, tls(&authority, "127.0.0.1"));
    let service = Setup::new()
        .set("LIKEWISE_REDIS_URL", redis.url())
        .set("LIKEWISE_REDIS_TLS_CA", authority.ca().display())
        .set("LIKEWISE_REDIS_TLS_CERT", cert.display())
        .set("LIKEWISE_REDIS_TLS_KEY", key.display())
        .set("LIKEWISE_NATS_URL", nats.url())
        .set("LIKEWISE_NATS_TLS_CA", authority.ca().display())
        .set("LIKEWISE_NATS_TLS_CERT", cert.display())
        .set("LIKEWISE_NATS_TLS_KEY", key.display())
        .start();
    let client = service.client();
    until_seen(
        "a like over both",
        || client.like(1, 7),
        |like| like.cached && like.durability == "broker",
    );
    ledger_closes(service.database());
    service.stop().verify(60).holds();
}

/// A node that demands TLS from clients and from other nodes, and serves all slots.
#[test]
fn cluster_over_tls_is_used() {
    let authority = Authority::new();
    let Pair { cert, key } = authority.sign("likewise", &["likewise"]);
    let mut node = Server::cluster_node();
    let () = redis_cluster::ask(&node, &["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    node.with_tls_from_now(tls(&authority, "127.0.0.1"));
    let service = Setup::new()
        .set(
            "LIKEWISE_REDIS_URL",
            node.url().replace("rediss://", "rediss+cluster://"),
        )
        .set("LIKEWISE_REDIS_TLS_CA", authority.ca().display())
        .set("LIKEWISE_REDIS_TLS_CERT", cert.display())
        .set("LIKEWISE_REDIS_TLS_KEY", key.display())
        .start();
    until_seen(
        "a like on the cluster",
        || service.client().like(1, 7),
        |like| like.cached,
    );
    ledger_closes(service.database());
    service.stop().verify(60).holds();
}

#[test]
fn untrusted_redis_error_names_the_setting() {
    let authority = Authority::new();
    let redis = Server::with_tls(Kind::Redis, tls(&authority, "127.0.0.1"));
    let service = Setup::new()
        .set("LIKEWISE_REDIS_URL", redis.url())
        .set("LIKEWISE_REDIS_TLS_CA", Authority::new().ca().display())
        .start();
    service.until_logged("invalid peer certificate");
    service.client().like(1, 7);
    service.stop();
}
