//! Sign-in: accepted tokens, refused tokens, and the rights of each.

use std::fs;

use serde_json::json;

use crate::support::http::{Answer, Client};
use crate::support::service::Setup;
use crate::support::tokens::{
    AUDIENCE, Provider, SECRET, claims, hmac_of, hs256, now, token, token_of, with,
};
use crate::support::{PATIENCE, until};

const PATH: &str = "/v1/videos/7/like";

/// Sign-in with the keys of an identity provider.
fn with_provider(provider: &Provider) -> Setup {
    let setup = Setup::new().with_sign_in_by("LIKEWISE_JWT_JWKS_FILE", "jwks.json");
    setup.write("jwks.json", provider.jwks().to_string());
    setup
}

fn send(client: &Client, method: &str, path: &str, token: &str, user: Option<&str>) -> Answer {
    let user = user.map(|user| ("X-User-Id", user));
    client.with_token(token).send(method, path, user.as_slice())
}

/// Checks the code of the problem and the challenge that belongs to it.
#[track_caller]
fn refused(answer: &Answer, status: u16, code: &str) {
    answer.is_problem(status, code);
    let challenge = answer.header("www-authenticate").expect("a challenge");
    assert!(
        challenge.starts_with("Bearer realm=\"likewise\""),
        "{challenge}"
    );
    let error = match code {
        "forbidden" => "error=\"insufficient_scope\"",
        "unauthorized" => "",
        _ => "error=\"invalid_token\"",
    };
    assert!(challenge.contains(error), "{answer:?}: {challenge}");
}

#[test]
fn invalid_token_is_rejected_and_nothing_is_written() {
    let provider = Provider::new();
    let service = with_provider(&provider).with_services().start();
    let client = service.client();
    let good = claims(42);
    let valid = provider.good("ec", &good);
    let (signed, _) = valid.rsplit_once('.').expect("a signature");
    let mut bad = vec![
        ("garbage".to_owned(), "token_invalid"),
        ("a.b.c".to_owned(), "token_invalid"),
        (format!("{signed}."), "token_invalid"),
        (signed.to_owned(), "token_invalid"),
        (format!("{signed}.{}", "A".repeat(86)), "token_invalid"),
        // Another provider has signed it.
        (Provider::new().good("ec", &good), "token_invalid"),
        ("lkw_nobody".to_owned(), "unauthorized"),
    ];
    // One claim is wrong, or missing if it is null.
    for (name, value, code) in [
        ("exp", json!(now() - 60), "token_expired"),
        ("exp", json!(null), "token_invalid"),
        ("exp", json!("4102444800"), "token_invalid"),
        ("nbf", json!(now() + 60), "token_not_yet_valid"),
        ("nbf", json!("0"), "token_invalid"),
        ("aud", json!("elsewhere"), "token_invalid"),
        ("aud", json!(["a", "b"]), "token_invalid"),
        ("aud", json!(null), "token_invalid"),
        ("iss", json!("https://id.example.org"), "token_invalid"),
        ("iss", json!(null), "token_invalid"),
        ("sub", json!(null), "token_invalid"),
        ("sub", json!("alice"), "token_invalid"),
        ("sub", json!(42), "token_invalid"),
        ("sub", json!("0"), "token_invalid"),
        ("sub", json!("-42"), "token_invalid"),
    ] {
        bad.push((provider.good("ec", &with(good.clone(), name, value)), code));
    }
    // The header names a key that is unknown, for encryption or of another algorithm, or it names none.
    for (key, header) in [
        ("ec", json!({"alg": "ES256", "kid": "ec2"})),
        ("ec", json!({"alg": "ES256"})),
        ("rsa", json!({"alg": "RS256", "kid": "other"})),
        ("ec", json!({"alg": "ES256", "kid": "rsa"})),
        ("rsa", json!({"alg": "RS512", "kid": "rsa"})),
        (
            "ec",
            json!({"alg": "ES256", "kid": "ec", "crit": ["x"], "x": 1}),
        ),
    ] {
        bad.push((provider.sign(key, &header, &good), "token_invalid"));
    }
    // The signature uses the public key or its modulus as a secret, or the algorithm is `none`.
    let public_key = provider.rsa_public_der();
    let modulus = provider.jwks()["keys"][0]["n"].to_string();
    for secret in [&public_key[..], modulus.as_bytes()] {
        let header = json!({"alg": "HS256", "kid": "rsa"});
        let signed = token(&header, &good, |message| hmac_of(secret, message));
        bad.push((signed, "token_invalid"));
    }
    for signature in [vec![], vec![0; 256]] {
        let header = json!({"alg": "none", "kid": "rsa"});
        bad.push((token(&header, &good, |_| signature), "token_invalid"));
    }
    for (token, code) in &bad {
        for method in ["PUT", "DELETE", "GET"] {
            refused(&send(&client, method, PATH, token, None), 401, code);
        }
        refused(
            &send(&client, "GET", "/admin/actors", token, None),
            401,
            code,
        );
        assert!(!client.put(PATH).text.contains(token.as_str()));
    }

    // Without a token, or with an invalid header.
    let bearer = format!("Bearer {valid}");
    for headers in [
        &[][..],
        &[("X-User-Id", "42")][..],
        &[("Authorization", "Basic NDI6NDI=")][..],
        &[("Authorization", "Bearer")][..],
        &[("Authorization", valid.as_str())][..],
        &[("Authorization", bearer.as_str()); 2][..],
    ] {
        refused(&client.send("PUT", PATH, headers), 401, "unauthorized");
    }

    // Valid tokens without the required right.
    const PANIC: &str = "/admin/faults/panic/cache_writer";
    for (method, path, token, user) in [
        ("PUT", PATH, valid.as_str(), Some("43")),
        ("PUT", PATH, &valid, Some("forty-two")),
        ("GET", "/admin/actors", &valid, None),
        ("GET", "/metrics", &valid, None),
        ("PUT", PATH, "lkw_reader", Some("42")),
        ("DELETE", PATH, "lkw_reader", Some("42")),
        ("PUT", PATH, "lkw_watcher", Some("42")),
        ("GET", PATH, "lkw_watcher", Some("42")),
        ("GET", PATH, "lkw_operator", Some("42")),
        ("GET", "/admin/actors", "lkw_writer", None),
        ("POST", PANIC, "lkw_writer", None),
        ("POST", PANIC, "lkw_watcher", None),
        ("GET", "/admin/actors", "lkw_operator", None),
        ("GET", "/metrics", "lkw_writer", None),
    ] {
        refused(&send(&client, method, path, token, user), 403, "forbidden");
    }
    // A service must name the user for whom it acts.
    let answer = send(&client, "PUT", PATH, "lkw_writer", None);
    answer.is_problem(400, "missing_user");
    service.stored_nothing();
}

#[test]
fn valid_token_of_each_algorithm_names_the_user() {
    let provider = Provider::new();
    let service = with_provider(&provider).start();
    let client = service.client();
    for (key, user) in [("rsa", 1), ("ec", 2), ("ed", 3)] {
        let token = provider.good(key, &claims(user));
        // Twice: the first request verifies the token, the second uses the remembered result.
        for method in ["PUT", "PUT", "GET", "GET"] {
            let body = send(&client, method, PATH, &token, None).ok();
            assert_eq!(
                (&body["user_id"], &body["liked"]),
                (&json!(user), &json!(true))
            );
        }
        // A user may name its own id.
        send(&client, "GET", PATH, &token, Some(&user.to_string())).ok();
        // Each byte of a remembered token counts too.
        let longer = format!("{token}A");
        refused(
            &send(&client, "GET", PATH, &longer, None),
            401,
            "token_invalid",
        );
    }
    let secret = Setup::new().with_sign_in().start();
    let client = secret.client();
    let within_leeway = with(claims(4), "exp", now() - 10);
    let several = with(claims(4), "aud", json!(["elsewhere", AUDIENCE]));
    let started = with(claims(4), "nbf", now() - 10);
    for claims in [&claims(4), &within_leeway, &several, &started] {
        let token = hs256(SECRET.as_bytes(), claims);
        send(&client, "PUT", PATH, &token, None).ok();
    }
    let other = hs256(&[b'x'; 32], &claims(4));
    refused(
        &send(&client, "PUT", PATH, &other, None),
        401,
        "token_invalid",
    );
    // Probes need no sign-in; everything else does.
    client.get("/healthz").ok();
    client.get("/readyz").ok();
    // No token has an admin scope here, so `/admin` refuses every caller.
    for path in ["/admin/actors", "/metrics"] {
        refused(&client.get(path), 401, "unauthorized");
    }
}

#[test]
fn expired_token_is_rejected_even_if_cached() {
    let service = Setup::new().with_sign_in().start();
    let client = until("a token that has not expired yet", PATIENCE, || {
        // Less than the leeway of 30 seconds is left.
        let nearly = with(claims(4), "exp", now() - 28);
        let token = hs256(SECRET.as_bytes(), &nearly);
        let client = service.client().with_token(&token);
        let answer = client.put(PATH);
        (answer.status == 200).then_some(client).ok_or(answer.text)
    });
    client
        .until_status(PATH, 401)
        .is_problem(401, "token_expired");
}

#[test]
fn service_acts_for_the_named_user_in_both_modes() {
    for setup in [Setup::new(), Setup::new().with_sign_in()] {
        let setup = setup.with_services().set("LIKEWISE_FAULT_INJECTION", true);
        let service = setup.start();
        let client = service.client();
        let liked = send(&client, "PUT", PATH, "lkw_writer", Some("5")).ok();
        assert_eq!(liked["user_id"], 5);
        for token in ["lkw_writer", "lkw_reader"] {
            let read = send(&client, "GET", PATH, token, Some("5")).ok();
            assert_eq!(read["liked"], true);
        }
        refused(
            &send(&client, "PUT", PATH, "lkw_reader", Some("5")),
            403,
            "forbidden",
        );
        refused(
            &send(&client, "PUT", PATH, "lkw_none", Some("5")),
            401,
            "unauthorized",
        );
        // With an admin scope in the file, `/admin` refuses every other caller.
        refused(&client.get("/admin/actors"), 401, "unauthorized");
        for path in ["/admin/actors", "/metrics"] {
            send(&client, "GET", path, "lkw_watcher", None).has_status(200);
        }
        let panic = "/admin/faults/panic/retry_scheduler";
        let answer = send(&client, "POST", panic, "lkw_operator", None);
        assert_eq!(answer.status, 202, "{answer:?}");
    }
}

#[test]
fn unsafe_sign_in_settings_fail_startup() {
    let base = || Setup::new().set("LIKEWISE_AUTH_MODE", "jwt");
    let aimed = || base().set("LIKEWISE_JWT_AUDIENCE", AUDIENCE);
    let with_file = |variable: &str, text: &str| {
        let setup = aimed().set(variable, "file");
        setup.write("file", text);
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
    let no_audience = base().set("LIKEWISE_JWT_SECRET", SECRET);
    let two_keys = keys("{}").set("LIKEWISE_JWT_SECRET", SECRET);
    let short_admin = Setup::new().set("LIKEWISE_ADMIN_TOKEN", "hushhush-admin");
    let absent = aimed().set("LIKEWISE_JWT_JWKS_FILE", "absent");
    let tokens = with_file("LIKEWISE_TOKENS_FILE", "[[token]]\nname = \"x\"\n")
        .set("LIKEWISE_JWT_SECRET", SECRET);
    for (setup, said) in [
        (no_audience, "LIKEWISE_JWT_AUDIENCE"),
        (aimed(), "exactly one of"),
        (aimed().set("LIKEWISE_JWT_SECRET", "hushhush"), "32 bytes"),
        (
            with_file("LIKEWISE_JWT_SECRET_FILE", "hushhush\n"),
            "32 bytes",
        ),
        (two_keys, "exactly one of"),
        (
            short_admin,
            "LIKEWISE_ADMIN_TOKEN must have 16 bytes or more",
        ),
        (absent, "cannot read absent"),
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
        let ran = Setup::new().with_sign_in().run(&["serve", flag, SECRET]);
        ran.exits(2);
    }
}

#[test]
fn secret_file_allows_any_listen_address() {
    let setup = Setup::new()
        .set("LIKEWISE_HTTP_ADDR", "0.0.0.0:0")
        .with_sign_in_by("LIKEWISE_JWT_SECRET_FILE", "secret");
    setup.write("secret", format!("{SECRET}\n"));
    let service = setup.start();
    let client = service.client();
    client.with_token(&token_of(9)).put(PATH).ok();
    refused(&client.as_user(9).put(PATH), 401, "unauthorized");
}

#[test]
fn generated_token_grants_its_scopes() {
    let setup = Setup::new();
    let new = |rest: &str| {
        let arguments: Vec<_> = "token new".split(' ').chain(rest.split(' ')).collect();
        setup.run(&arguments)
    };
    let ran = new("--name feed --scope likes:read --scope admin:read");
    ran.exits(0);
    let token = ran.stdout.lines().find(|line| line.starts_with("lkw_"));
    let token = token.expect("a token").to_owned();
    let (_, entry) = ran.stdout.split_once("[[token]]").expect("an entry");
    assert!(!entry.contains(&token));
    for wrong in [
        "--name admin --scope likes:read",
        "--name feed --scope everything",
        "--name feed",
    ] {
        assert_eq!(new(wrong).code, Some(2), "{wrong}");
    }
    setup.write("tokens.toml", format!("[[token]]{entry}"));
    let service = setup.set("LIKEWISE_TOKENS_FILE", "tokens.toml").start();
    let client = service.client();
    send(&client, "GET", "/admin/actors", &token, None).ok();
    send(&client, "GET", PATH, &token, Some("1")).ok();
    assert_eq!(send(&client, "PUT", PATH, &token, Some("1")).status, 403);
}

#[test]
fn no_secret_is_in_any_log() {
    let setup = Setup::new()
        .with_sign_in()
        .with_services()
        .set("LIKEWISE_ADMIN_TOKEN", "hushhush-admin-token")
        .set("RUST_LOG", "trace");
    let service = setup.start();
    let client = service.client();
    let good = token_of(4);
    let expired = hs256(SECRET.as_bytes(), &with(claims(4), "exp", 1));
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
        "the log has no debug lines"
    );
    for secret in tokens.into_iter().chain([SECRET, "hushhush"]) {
        assert!(!logged.contains(secret), "{secret} is in the log");
    }
    let signature = good.rsplit_once('.').expect("a signature").1;
    assert!(!logged.contains(signature));
}
