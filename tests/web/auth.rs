//! Sign-in: accepted tokens, refused tokens, and the rights of each.

use std::fs;

use serde_json::{Value, json};

use crate::support::http::{Answer, Client};
use crate::support::service::{Service, Setup};
use crate::support::tokens::{
    AUDIENCE, ISSUER, Provider, SECRET, claims, hmac_of, hs256, now, sha256, token, with,
};
use crate::support::until_seen;

const PATH: &str = "/v1/videos/7/like";

/// Sign-in with one secret.
pub fn with_secret() -> Setup {
    Setup::new()
        .set("LIKEWISE_AUTH_MODE", "jwt")
        .set("LIKEWISE_JWT_SECRET", SECRET)
        .set("LIKEWISE_JWT_AUDIENCE", AUDIENCE)
        .set("LIKEWISE_JWT_ISSUER", ISSUER)
}

/// Sign-in with the keys of an identity provider.
fn with_provider(provider: &Provider) -> Setup {
    let setup = Setup::new()
        .set("LIKEWISE_AUTH_MODE", "jwt")
        .set("LIKEWISE_JWT_JWKS_FILE", "jwks.json")
        .set("LIKEWISE_JWT_AUDIENCE", AUDIENCE)
        .set("LIKEWISE_JWT_ISSUER", ISSUER);
    write(&setup, "jwks.json", &provider.jwks().to_string());
    setup
}

pub fn write(setup: &Setup, name: &str, text: &str) {
    fs::write(setup.folder().join(name), text).expect("a file");
}

/// Services with one scope each, and one with all scopes.
pub fn with_services(setup: Setup) -> Setup {
    let entry = |name: &str, scopes: &[&str]| {
        let hash = sha256(&format!("lkw_{name}"));
        format!("[[token]]\nname = \"{name}\"\nsha256 = \"{hash}\"\nscopes = {scopes:?}\n")
    };
    let text = entry("writer", &["likes:write:any"])
        + &entry("reader", &["likes:read"])
        + &entry("watcher", &["admin:read"])
        + &entry("operator", &["admin:operate"]);
    write(&setup, "tokens.toml", &text);
    setup.set("LIKEWISE_TOKENS_FILE", "tokens.toml")
}

/// Sends a body with a token.
pub fn send_body(client: &Client, method: &str, path: &str, token: &str, body: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    let sent = client.try_send(method, path, &[("Authorization", &bearer)], body.as_bytes());
    sent.expect("an answer")
}

fn send(client: &Client, method: &str, path: &str, token: &str, user: Option<&str>) -> Answer {
    let bearer = format!("Bearer {token}");
    let mut headers = vec![("Authorization", bearer.as_str())];
    headers.extend(user.map(|user| ("X-User-Id", user)));
    client.send(method, path, &headers)
}

#[track_caller]
fn nothing_is_written(service: &Service) {
    for table in ["user_behaviors", "sync_events", "video_likes"] {
        let rows = service.database().count(table);
        assert_eq!(rows, 0, "{table}");
    }
}

#[track_caller]
fn refused(answer: &Answer, status: u16, code: &str, what: &str) {
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (status, code),
        "{what}: {answer:?}"
    );
    let challenge = answer.header("www-authenticate").expect("a challenge");
    let error = match code {
        "forbidden" => Some("insufficient_scope"),
        "unauthorized" => None,
        _ => Some("invalid_token"),
    };
    assert!(
        challenge.starts_with("Bearer realm=\"likewise\""),
        "{what}: {challenge}"
    );
    if let Some(error) = error {
        assert!(
            challenge.contains(&format!("error=\"{error}\"")),
            "{what}: {challenge}"
        );
    }
}

#[test]
fn invalid_token_is_rejected_and_nothing_is_written() {
    let provider = Provider::new();
    let stranger = Provider::new();
    let service = with_services(with_provider(&provider)).start();
    let client = service.client();
    let good = claims(42);
    let of = |claims: &Value| provider.good("ec", claims);
    let claim = |name: &str, value: Option<Value>| of(&with(good.clone(), name, value));
    let valid = of(&good);
    let (signed, _) = valid.rsplit_once('.').expect("a signature");
    let header = |algorithm: &str| json!({"alg": algorithm, "kid": "rsa"});
    let public_key = provider.rsa_public_der();
    let modulus = provider.jwks()["keys"][0]["n"].to_string();
    let bad = [
        ("garbage", "garbage".to_owned(), "token_invalid"),
        (
            "three parts of garbage",
            "a.b.c".to_owned(),
            "token_invalid",
        ),
        ("no signature", format!("{signed}."), "token_invalid"),
        ("two parts", signed.to_owned(), "token_invalid"),
        (
            "a changed signature",
            format!("{signed}.{}", "A".repeat(86)),
            "token_invalid",
        ),
        (
            "expired",
            claim("exp", Some(json!(now() - 60))),
            "token_expired",
        ),
        (
            "not yet valid",
            claim("nbf", Some(json!(now() + 60))),
            "token_not_yet_valid",
        ),
        ("no exp", claim("exp", None), "token_invalid"),
        (
            "exp as text",
            claim("exp", Some(json!("4102444800"))),
            "token_invalid",
        ),
        (
            "nbf as text",
            claim("nbf", Some(json!("0"))),
            "token_invalid",
        ),
        (
            "another audience",
            claim("aud", Some(json!("elsewhere"))),
            "token_invalid",
        ),
        (
            "other audiences",
            claim("aud", Some(json!(["a", "b"]))),
            "token_invalid",
        ),
        ("no audience", claim("aud", None), "token_invalid"),
        (
            "another issuer",
            claim("iss", Some(json!("https://id.example.org"))),
            "token_invalid",
        ),
        ("no issuer", claim("iss", None), "token_invalid"),
        ("no sub", claim("sub", None), "token_invalid"),
        (
            "sub in words",
            claim("sub", Some(json!("alice"))),
            "token_invalid",
        ),
        (
            "sub as a number",
            claim("sub", Some(json!(42))),
            "token_invalid",
        ),
        (
            "sub below one",
            claim("sub", Some(json!("0"))),
            "token_invalid",
        ),
        (
            "sub with a sign",
            claim("sub", Some(json!("-42"))),
            "token_invalid",
        ),
        ("another's key", stranger.good("ec", &good), "token_invalid"),
        (
            "an unknown kid",
            provider.sign("ec", &json!({"alg": "ES256", "kid": "ec2"}), &good),
            "token_invalid",
        ),
        (
            "no kid where there are several keys",
            provider.sign("ec", &json!({"alg": "ES256"}), &good),
            "token_invalid",
        ),
        (
            "the kid of a key for encryption",
            provider.sign("rsa", &json!({"alg": "RS256", "kid": "other"}), &good),
            "token_invalid",
        ),
        (
            "the kid of another key",
            provider.sign("ec", &json!({"alg": "ES256", "kid": "rsa"}), &good),
            "token_invalid",
        ),
        (
            "an algorithm that is not the key's",
            provider.sign("rsa", &json!({"alg": "RS512", "kid": "rsa"}), &good),
            "token_invalid",
        ),
        (
            "a critical extension",
            provider.sign(
                "ec",
                &json!({"alg": "ES256", "kid": "ec", "crit": ["x"], "x": 1}),
                &good,
            ),
            "token_invalid",
        ),
        (
            "the public key as a secret",
            token(&header("HS256"), &good, |message| {
                hmac_of(&public_key, message)
            }),
            "token_invalid",
        ),
        (
            "the modulus as a secret",
            token(&header("HS256"), &good, |message| {
                hmac_of(modulus.as_bytes(), message)
            }),
            "token_invalid",
        ),
        (
            "alg none",
            token(&header("none"), &good, |_| Vec::new()),
            "token_invalid",
        ),
        (
            "alg none, with a signature",
            token(&header("none"), &good, |_| vec![0; 256]),
            "token_invalid",
        ),
        (
            "a service token that nobody has",
            "lkw_nobody".to_owned(),
            "unauthorized",
        ),
    ];
    for (what, token, code) in &bad {
        for method in ["PUT", "DELETE", "GET"] {
            let answer = send(&client, method, PATH, token, None);
            refused(&answer, 401, code, what);
        }
        refused(
            &send(&client, "GET", "/admin/actors", token, None),
            401,
            code,
            what,
        );
        assert!(!client.send("PUT", PATH, &[]).text.contains(token.as_str()));
    }

    // Without a token, or with an invalid header.
    for headers in [
        &[][..],
        &[("X-User-Id", "42")][..],
        &[("Authorization", "Basic NDI6NDI=")][..],
        &[("Authorization", "Bearer")][..],
        &[("Authorization", valid.as_str())][..],
    ] {
        let answer = client.send("PUT", PATH, headers);
        refused(&answer, 401, "unauthorized", &format!("{headers:?}"));
    }
    let bearer = format!("Bearer {valid}");
    let twice = [("Authorization", bearer.as_str()); 2];
    refused(
        &client.send("PUT", PATH, &twice),
        401,
        "unauthorized",
        "two tokens",
    );

    // Valid tokens without the required right.
    for (what, method, path, token, user) in [
        ("another user", "PUT", PATH, valid.as_str(), Some("43")),
        ("no user id", "PUT", PATH, &valid, Some("forty-two")),
        ("a user on /admin", "GET", "/admin/actors", &valid, None),
        ("a user's metrics", "GET", "/metrics", &valid, None),
        ("reading only", "PUT", PATH, "lkw_reader", Some("42")),
        ("reading only", "DELETE", PATH, "lkw_reader", Some("42")),
        ("watching only", "PUT", PATH, "lkw_watcher", Some("42")),
        ("watching only", "GET", PATH, "lkw_watcher", Some("42")),
        ("operating only", "GET", PATH, "lkw_operator", Some("42")),
        ("writing only", "GET", "/admin/actors", "lkw_writer", None),
        (
            "writing only",
            "POST",
            "/admin/faults/panic/cache_writer",
            "lkw_writer",
            None,
        ),
        (
            "watching only",
            "POST",
            "/admin/faults/panic/cache_writer",
            "lkw_watcher",
            None,
        ),
        (
            "operating only",
            "GET",
            "/admin/actors",
            "lkw_operator",
            None,
        ),
        ("writing only", "GET", "/metrics", "lkw_writer", None),
    ] {
        let answer = send(&client, method, path, token, user);
        refused(
            &answer,
            403,
            "forbidden",
            &format!("{what}: {method} {path}"),
        );
    }
    // A service must name the user for whom it acts.
    let answer = send(&client, "PUT", PATH, "lkw_writer", None);
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (400, "missing_user")
    );
    nothing_is_written(&service);
}

#[test]
fn valid_token_of_each_algorithm_names_the_user() {
    let provider = Provider::new();
    let service = with_provider(&provider).start();
    let client = service.client();
    for (key, user) in [("rsa", 1), ("ec", 2), ("ed", 3)] {
        let token = provider.good(key, &claims(user));
        for method in ["PUT", "GET"] {
            // Twice: the first request verifies the token, the second uses the remembered result.
            for _ in 0..2 {
                let answer = send(&client, method, PATH, &token, None);
                assert_eq!(answer.status, 200, "{key}: {answer:?}");
                let body = answer.json();
                assert_eq!(
                    (&body["user_id"], &body["liked"]),
                    (&json!(user), &json!(true))
                );
            }
        }
        // A user may name its own id.
        let answer = send(&client, "GET", PATH, &token, Some(&user.to_string()));
        assert_eq!(answer.status, 200, "{key}: {answer:?}");
        // Each byte of a remembered token counts too.
        let longer = format!("{token}A");
        refused(
            &send(&client, "GET", PATH, &longer, None),
            401,
            "token_invalid",
            key,
        );
    }
    let secret = with_secret().start();
    let client = secret.client();
    let within_leeway = with(claims(4), "exp", Some(json!(now() - 10)));
    let several = with(claims(4), "aud", Some(json!(["elsewhere", AUDIENCE])));
    let begun = with(claims(4), "nbf", Some(json!(now() - 10)));
    for claims in [&claims(4), &within_leeway, &several, &begun] {
        let answer = send(
            &client,
            "PUT",
            PATH,
            &hs256(SECRET.as_bytes(), claims),
            None,
        );
        assert_eq!(answer.status, 200, "{claims}: {answer:?}");
    }
    let other = hs256(&[b'x'; 32], &claims(4));
    refused(
        &send(&client, "PUT", PATH, &other, None),
        401,
        "token_invalid",
        "another secret",
    );
    // Probes need no sign-in; everything else does.
    assert_eq!(client.get("/healthz").status, 200);
    assert_eq!(client.get("/readyz").status, 200);
    // No token has an admin scope here, so `/admin` refuses every caller.
    for path in ["/admin/actors", "/metrics"] {
        refused(&client.get(path), 401, "unauthorized", path);
    }
}

#[test]
fn expired_token_is_rejected_even_if_cached() {
    let service = with_secret().start();
    let client = service.client();
    // Less than the leeway of 30 seconds is left.
    let nearly = with(claims(4), "exp", Some(json!(now() - 28)));
    let token = hs256(SECRET.as_bytes(), &nearly);
    assert_eq!(send(&client, "PUT", PATH, &token, None).status, 200);
    let expired = until_seen(
        "the token to expire",
        || send(&client, "GET", PATH, &token, None),
        |answer| answer.status == 401,
    );
    assert_eq!(expired.problem(), "token_expired");
}

#[test]
fn service_acts_for_the_named_user_in_both_modes() {
    for setup in [Setup::new(), with_secret()] {
        let service = with_services(setup.set("LIKEWISE_FAULT_INJECTION", true)).start();
        let client = service.client();
        let answer = send(&client, "PUT", PATH, "lkw_writer", Some("5"));
        assert_eq!((answer.status, &answer.json()["user_id"]), (200, &json!(5)));
        for token in ["lkw_writer", "lkw_reader"] {
            let answer = send(&client, "GET", PATH, token, Some("5"));
            assert_eq!(
                (answer.status, &answer.json()["liked"]),
                (200, &json!(true))
            );
        }
        refused(
            &send(&client, "PUT", PATH, "lkw_reader", Some("5")),
            403,
            "forbidden",
            "reader",
        );
        refused(
            &send(&client, "PUT", PATH, "lkw_none", Some("5")),
            401,
            "unauthorized",
            "none",
        );
        // With an admin scope in the file, `/admin` refuses every other caller.
        refused(&client.get("/admin/actors"), 401, "unauthorized", "nobody");
        assert_eq!(
            send(&client, "GET", "/admin/actors", "lkw_watcher", None).status,
            200
        );
        assert_eq!(
            send(&client, "GET", "/metrics", "lkw_watcher", None).status,
            200
        );
        let panic = "/admin/faults/panic/retry_scheduler";
        assert_eq!(
            send(&client, "POST", panic, "lkw_operator", None).status,
            202
        );
    }
}

#[test]
fn unsafe_sign_in_settings_fail_startup() {
    let base = || Setup::new().set("LIKEWISE_AUTH_MODE", "jwt");
    let aimed = || base().set("LIKEWISE_JWT_AUDIENCE", AUDIENCE);
    let with_file = |variable: &str, text: &str| {
        let setup = aimed().set(variable, "file");
        write(&setup, "file", text);
        setup
    };
    let keys = |text: &str| with_file("LIKEWISE_JWT_JWKS_FILE", text);
    let private = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AAAA","d":"hushhush"}]}"#;
    let short = r#"{"keys":[{"kty":"RSA","n":"AQABAQAB","e":"AQAB"}]}"#;
    let useless = r#"{"keys":[{"kty":"RSA","use":"enc","n":"AQABAQAB","e":"AQAB"}]}"#;
    let twice = {
        let mut jwks = Provider::new().jwks();
        let again = jwks["keys"][0].clone();
        jwks["keys"].as_array_mut().expect("keys").push(again);
        jwks.to_string()
    };
    let tokens = with_file("LIKEWISE_TOKENS_FILE", "[[token]]\nname = \"x\"\n")
        .set("LIKEWISE_JWT_SECRET", SECRET);
    for (setup, said) in [
        (
            base().set("LIKEWISE_JWT_SECRET", SECRET),
            "LIKEWISE_JWT_AUDIENCE",
        ),
        (aimed(), "exactly one of"),
        (aimed().set("LIKEWISE_JWT_SECRET", "hushhush"), "32 bytes"),
        (
            with_file("LIKEWISE_JWT_SECRET_FILE", "hushhush\n"),
            "32 bytes",
        ),
        (
            keys("{}").set("LIKEWISE_JWT_SECRET", SECRET),
            "exactly one of",
        ),
        (
            Setup::new().set("LIKEWISE_ADMIN_TOKEN", "hushhush-admin"),
            "LIKEWISE_ADMIN_TOKEN must have 16 bytes or more",
        ),
        (
            aimed().set("LIKEWISE_JWT_JWKS_FILE", "absent"),
            "cannot read absent",
        ),
        (keys("hushhush"), "not a JSON object"),
        (keys(r#"{"keys":[]}"#), "no public key"),
        (keys(useless), "no public key"),
        (keys(private), "private"),
        (keys(short), "too short"),
        (keys(&twice), "same 'kid'"),
        (tokens, "LIKEWISE_TOKENS_FILE"),
        (Setup::new().set("LIKEWISE_AUTH_MODE", "open"), "open"),
    ] {
        let ran = setup.run(&["serve"]);
        assert!(!matches!(ran.code, Some(0) | None), "{said}: {ran:?}");
        assert!(ran.stderr.contains(said), "{said} is not in {ran:?}");
        assert!(!ran.stderr.contains("hushhush"), "{ran:?}");
        assert!(!ran.stdout.contains("listening"), "{ran:?}");
    }
    // Secrets have no flags, because other users of the machine can see arguments.
    for flag in ["--jwt-secret", "--admin-token"] {
        let ran = with_secret().run(&["serve", flag, SECRET]);
        assert_eq!(ran.code, Some(2), "{ran:?}");
    }
}

#[test]
fn secret_file_allows_any_listen_address() {
    let setup = Setup::new()
        .set("LIKEWISE_HTTP_ADDR", "0.0.0.0:0")
        .set("LIKEWISE_AUTH_MODE", "jwt")
        .set("LIKEWISE_JWT_SECRET_FILE", "secret")
        .set("LIKEWISE_JWT_AUDIENCE", AUDIENCE);
    write(&setup, "secret", &format!("{SECRET}\n"));
    let service = setup.start();
    let client = service.client();
    let token = hs256(SECRET.as_bytes(), &claims(9));
    assert_eq!(send(&client, "PUT", PATH, &token, None).status, 200);
    refused(
        &client.send("PUT", PATH, &[("X-User-Id", "9")]),
        401,
        "unauthorized",
        "no token",
    );
}

#[test]
fn generated_token_grants_its_scopes() {
    let setup = Setup::new();
    let arguments = [
        "token",
        "new",
        "--name",
        "feed",
        "--scope",
        "likes:read",
        "--scope",
    ];
    let ran = setup.run(&[&arguments[..], &["admin:read"]].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let token = ran.stdout.lines().find(|line| line.starts_with("lkw_"));
    let token = token.expect("a token").to_owned();
    let (_, entry) = ran.stdout.split_once("[[token]]").expect("an entry");
    assert!(!entry.contains(&token));
    write(&setup, "tokens.toml", &format!("[[token]]{entry}"));
    let service = setup.set("LIKEWISE_TOKENS_FILE", "tokens.toml").start();
    let client = service.client();
    assert_eq!(
        send(&client, "GET", "/admin/actors", &token, None).status,
        200
    );
    assert_eq!(send(&client, "GET", PATH, &token, Some("1")).status, 200);
    assert_eq!(send(&client, "PUT", PATH, &token, Some("1")).status, 403);
    for wrong in [
        &["token", "new", "--name", "admin", "--scope", "likes:read"][..],
        &["token", "new", "--name", "feed", "--scope", "everything"],
        &["token", "new", "--name", "feed"],
    ] {
        assert_eq!(Setup::new().run(wrong).code, Some(2));
    }
}

#[test]
fn no_secret_is_in_any_log() {
    let setup = with_services(with_secret())
        .set("LIKEWISE_ADMIN_TOKEN", "hushhush-admin-token")
        .set("RUST_LOG", "trace");
    let service = setup.start();
    let client = service.client();
    let good = hs256(SECRET.as_bytes(), &claims(4));
    let expired = hs256(SECRET.as_bytes(), &with(claims(4), "exp", Some(json!(1))));
    let tokens = [
        &good,
        &expired,
        "hushhush-admin-token",
        "lkw_writer",
        "lkw_stranger",
        "hushhush.x.y",
    ];
    for token in tokens {
        send(&client, "PUT", PATH, token, Some("4"));
        send(&client, "GET", "/admin/actors", token, None);
    }
    let setup = service.stop();
    let mut logged = fs::read_to_string(setup.folder().join("stderr.0")).expect("a log");
    logged += &fs::read_to_string(setup.folder().join("stdout.0")).expect("an output");
    assert!(
        logged.contains("DEBUG likewise"),
        "the log has what it should not show"
    );
    for secret in tokens.into_iter().chain([SECRET, "hushhush"]) {
        assert!(!logged.contains(secret), "{secret} is in the log");
    }
    let signature = good.rsplit_once('.').expect("a signature").1;
    assert!(!logged.contains(signature));
}
