//! Keys and service tokens that change while the service runs: the new ones come into force without a restart, and what
//! cannot be read leaves the old ones in force.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use serde_json::{Value, json};

use crate::support::http::Client;
use crate::support::service::{Setup, Signal};
use crate::support::tokens::{Provider, SECRET, claims, hs256, service_token, token_of, with};
use crate::support::{until_equal, until_seen};

const PATH: &str = "/v1/videos/7/like";

/// An identity provider that publishes keys, or fails.
struct Identity {
    url: String,
    /// What it answers: a key set, or nothing but 500.
    published: Arc<Mutex<Option<Value>>>,
}

impl Identity {
    fn publishing(keys: Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/jwks", listener.local_addr().expect("an address"));
        let published = Arc::new(Mutex::new(Some(keys)));
        let answers = Arc::clone(&published);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut head = Vec::new();
                let mut part = [0; 1_024];
                while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                    match stream.read(&mut part) {
                        Ok(length) if length > 0 => head.extend_from_slice(&part[..length]),
                        _ => break,
                    }
                }
                let body = answers.lock().unwrap_or_else(PoisonError::into_inner);
                let (status, body) = match body.as_ref() {
                    Some(keys) => ("200 OK", keys.to_string()),
                    None => ("500 Internal Server Error", String::new()),
                };
                let length = body.len();
                // The client may have disconnected.
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                );
            }
        });
        Self { url, published }
    }

    fn publish(&self, keys: Option<Value>) {
        let mut published = self
            .published
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *published = keys;
    }
}

/// The keys of a provider, whose EC key has this id.
fn keys(provider: &Provider, id: &str) -> Value {
    let mut keys = provider.jwks();
    keys["keys"][1]["kid"] = id.into();
    keys
}

fn token(provider: &Provider, id: &str, user: i64) -> String {
    provider.sign("ec", &json!({"alg": "ES256", "kid": id}), &claims(user))
}

fn with_identity(identity: &Identity) -> Setup {
    Setup::new().with_sign_in_by("LIKEWISE_JWT_JWKS_URL", &identity.url)
}

fn status(client: &Client, token: &str) -> u16 {
    client.with_token(token).put(PATH).status
}

#[track_caller]
fn becomes(client: &Client, token: &str, wanted: u16) {
    until_equal("the new keys to be in force", wanted, || {
        status(client, token)
    });
}

#[test]
fn unknown_key_makes_the_service_fetch_the_key_set() {
    let (old, new) = (Provider::new(), Provider::new());
    let identity = Identity::publishing(keys(&old, "old"));
    let service = with_identity(&identity).start();
    let client = service.client();
    let (by_old, by_new) = (token(&old, "old", 1), token(&new, "new", 2));
    assert_eq!(status(&client, &by_old), 200);
    assert_eq!(status(&client, &by_new), 401);
    identity.publish(Some(keys(&new, "new")));
    becomes(&client, &by_new, 200);
    assert_eq!(status(&client, &by_old), 401, "the key was removed");
    service.stop();
}

#[test]
fn keys_stay_in_force_while_the_identity_provider_is_away() {
    let (old, new) = (Provider::new(), Provider::new());
    let identity = Identity::publishing(keys(&old, "old"));
    let setup = with_identity(&identity);
    let service = setup.set("LIKEWISE_JWT_JWKS_REFRESH_SECONDS", 10).start();
    let client = service.client();
    let by_old = token(&old, "old", 1);
    assert_eq!(status(&client, &by_old), 200);
    let said = "cannot be read again";
    for broken in [None, Some(json!({"keys": []}))] {
        let before = service.logged(said).len();
        identity.publish(broken);
        service.signal(Signal::HUP);
        let said = || service.logged(said).len();
        until_seen("the log to say so", said, |said| *said > before);
        assert_eq!(status(&client, &by_old), 200);
    }
    // Without an unknown key and without a signal, the interval ends.
    identity.publish(Some(keys(&new, "new")));
    becomes(&client, &by_old, 401);
    assert_eq!(status(&client, &token(&new, "new", 2)), 200);
    service.stop();
}

#[test]
fn key_set_that_cannot_be_fetched_at_the_start_is_an_error() {
    let identity = Identity::publishing(Value::Null);
    identity.publish(None);
    for (url, said) in [
        (identity.url.as_str(), "500"),
        ("http://id.example.com/jwks", "must begin with https://"),
    ] {
        let setup = with_identity(&identity).set("LIKEWISE_JWT_JWKS_URL", url);
        let ran = setup.run(&["serve"]);
        ran.exits(1).reports("LIKEWISE_JWT_JWKS_URL").reports(said);
    }
}

#[test]
fn changed_files_come_into_force_without_a_restart() {
    let service = Setup::new().with_sign_in().with_services().start();
    let client = service.client();
    let admin = |token| client.with_token(token).get("/admin/actors").status;
    assert_eq!((admin("lkw_watcher"), admin("lkw_new")), (200, 401));
    service.setup().write("tokens.toml", "[[token]]\nname = 1");
    until_equal("the log to say so", 1, || {
        service.logged("the old ones stay in force").len()
    });
    assert_eq!(admin("lkw_watcher"), 200);
    let new = service_token("new", "lkw_new", &["admin:read"]);
    service.setup().write("tokens.toml", new);
    until_equal("the new token to be known", (401, 200), || {
        (admin("lkw_watcher"), admin("lkw_new"))
    });
    // A user's token is still good.
    assert_eq!(status(&client, &token_of(1)), 200);
    service.stop();
}

#[test]
fn user_comes_from_the_configured_claim() {
    let setup = Setup::new().with_sign_in();
    let service = setup.set("LIKEWISE_JWT_USER_CLAIM", "app.user_id").start();
    let client = service.client();
    let named = |app: Value| {
        let claims = with(with(claims(1), "sub", "alice"), "app", app);
        let token = hs256(SECRET.as_bytes(), &claims);
        client.with_token(&token).put(PATH)
    };
    assert_eq!(named(json!({"user_id": 42})).json()["user_id"], 42);
    assert_eq!(named(json!({"user_id": "43"})).json()["user_id"], 43);
    for bad in [
        json!({"user_id": "alice"}),
        json!({}),
        json!({"user_id": -1}),
    ] {
        let answer = named(bad);
        answer.has_status(401);
        assert!(
            answer.text.contains("LIKEWISE_JWT_USER_CLAIM"),
            "{answer:?}"
        );
    }
    service.stop();
}
