//! HTTP clients of the service.

use std::fmt::Display;
use std::net::SocketAddr;
use std::time::Duration;

use likewise::http_client;
use likewise::web::problem::Code;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::Agent;
use ureq::http::{HeaderMap, Request};

use super::{until_equal, until_seen};

/// The time limit of a request. A request that hangs fails its test.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// A client with keep-alive connections of its own.
#[derive(Clone)]
pub struct Client {
    agent: Agent,
    base: String,
    headers: Vec<(String, String)>,
}

/// An answer with any status.
#[derive(Debug)]
pub struct Answer {
    /// The method, the path and the headers of the request, for the message of a failed test.
    #[allow(dead_code, reason = "failed tests print it")]
    request: String,
    /// Its status.
    pub status: u16,
    headers: HeaderMap,
    /// Its body.
    pub text: String,
}

impl Client {
    /// Creates a client of the service at this address.
    pub fn of(address: SocketAddr) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(TIMEOUT))
            .max_idle_age(http_client::LONGEST_IDLE)
            .max_redirects(0)
            .allow_non_standard_methods(true)
            .proxy(None)
            .build();
        Self {
            agent: config.new_agent(),
            base: format!("http://{address}"),
            headers: Vec::new(),
        }
    }

    /// Returns the same client, which sends this header with each request.
    pub fn with(&self, name: &str, value: impl Display) -> Self {
        let mut client = self.clone();
        client.headers.push((name.to_owned(), value.to_string()));
        client
    }

    /// Returns the same client for this user.
    pub fn as_user(&self, user: impl Display) -> Self {
        self.with("X-User-Id", user)
    }

    /// Returns the same client with this token.
    pub fn with_token(&self, token: &str) -> Self {
        self.with("Authorization", format!("Bearer {token}"))
    }

    /// Sends a request. Returns the answer, or why there is none. A body is JSON unless a header says otherwise.
    pub fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, String> {
        let own = self.headers.iter();
        let own = own.map(|(name, value)| (name.as_str(), value.as_str()));
        let headers: Vec<_> = own.chain(headers.iter().copied()).collect();
        let sent = format!("{method} {path} {headers:?}");
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base));
        let says_type = |(name, _): &(&str, &str)| name.eq_ignore_ascii_case("content-type");
        if !body.is_empty() && !headers.iter().any(says_type) {
            request = request.header("Content-Type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let answer = if body.is_empty() && method != "PUT" && method != "POST" {
            self.agent.run(request.body(()).expect("a request"))
        } else {
            self.agent.run(request.body(body).expect("a request"))
        };
        let mut answer = answer.map_err(|error| error.to_string())?;
        // An export may be large.
        let text = answer
            .body_mut()
            .with_config()
            .limit(256 << 20)
            .read_to_string();
        Ok(Answer {
            request: sent,
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            text: text.map_err(|error| error.to_string())?,
        })
    }

    /// Sends a request that must be answered.
    #[track_caller]
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        match self.try_send(method, path, headers, b"") {
            Ok(answer) => answer,
            Err(error) => panic!("{method} {path} was not answered: {error}"),
        }
    }

    /// Sends a `GET` without a user.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[])
    }

    /// Sends a `PUT` without a body.
    #[track_caller]
    pub fn put(&self, path: &str) -> Answer {
        self.send("PUT", path, &[])
    }

    /// Sends a `POST` with this body.
    #[track_caller]
    pub fn post(&self, path: &str, body: impl Display) -> Answer {
        self.send_body("POST", path, &body.to_string())
    }

    /// Sends a request with a body. It must be answered.
    #[track_caller]
    pub fn send_body(&self, method: &str, path: &str, body: &str) -> Answer {
        match self.try_send(method, path, &[], body.as_bytes()) {
            Ok(answer) => answer,
            Err(error) => panic!("{method} {path} was not answered: {error}"),
        }
    }

    /// Sends a request for a user's like of a video.
    pub fn try_like(&self, method: &str, user: i64, video: i64) -> Result<Answer, String> {
        let user = user.to_string();
        let path = format!("/v1/videos/{video}/like");
        self.try_send(method, &path, &[("X-User-Id", &user)], b"")
    }

    /// Likes a video. The like must be accepted.
    #[track_caller]
    pub fn like(&self, user: i64, video: i64) -> Accepted {
        self.wish("PUT", user, video)
    }

    /// Unlikes a video. The unlike must be accepted.
    #[track_caller]
    pub fn unlike(&self, user: i64, video: i64) -> Accepted {
        self.wish("DELETE", user, video)
    }

    #[track_caller]
    fn wish(&self, method: &str, user: i64, video: i64) -> Accepted {
        let answer = self.try_like(method, user, video);
        let answer = answer.unwrap_or_else(|error| panic!("no answer: {error}"));
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.read()
    }

    /// Reads a like, which must be known.
    #[track_caller]
    pub fn read(&self, user: i64, video: i64) -> Like {
        let answer = self.try_like("GET", user, video);
        let answer = answer.unwrap_or_else(|error| panic!("no answer: {error}"));
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.read()
    }

    /// Returns the report of an actor.
    #[track_caller]
    pub fn actor(&self, name: &str) -> Actor {
        let actors = self.actors();
        let actor = actors.into_iter().find(|actor| actor.name == name);
        actor.unwrap_or_else(|| panic!("no actor {name}"))
    }

    /// Returns the reports of all actors that the process runs.
    #[track_caller]
    pub fn actors(&self) -> Vec<Actor> {
        let mut actors = self.actors_and_disabled();
        actors.retain(|actor| actor.state != "disabled");
        actors
    }

    /// Returns the reports of all actors.
    #[track_caller]
    pub fn actors_and_disabled(&self) -> Vec<Actor> {
        let answer = self.get("/admin/actors");
        assert_eq!(answer.status, 200, "{answer:?}");
        let Actors { actors, .. } = answer.read();
        actors
    }

    /// Gets this path until the answer has this status. Returns the answer.
    #[track_caller]
    pub fn until_status(&self, path: &str, status: u16) -> Answer {
        let what = format!("GET {path} to be answered with {status}");
        until_seen(&what, || self.get(path), |answer| answer.status == status)
    }

    /// Waits until a read shows whether the user likes the video, and the like count.
    #[track_caller]
    pub fn until_read(&self, user: i64, video: i64, expected: (bool, Option<i64>)) {
        until_equal("the like to be read as expected", expected, || {
            let like = self.read(user, video);
            (like.liked, like.like_count)
        });
    }

    /// Waits until this many messages are in an actor's mailbox.
    #[track_caller]
    pub fn until_depth(&self, actor: &str, depth: u64) {
        let what = format!("the depth of the mailbox of {actor}");
        until_equal(&what, depth, || self.actor(actor).mailbox.depth);
    }

    /// Waits until the service accepts no more connections.
    #[track_caller]
    pub fn until_refused(&self) {
        let probe = || self.try_send("GET", "/healthz", &[], b"");
        let _ = until_seen("connections to be refused", probe, Result::is_err);
    }
}

impl Answer {
    /// Returns a header, if it is present.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Parses the body as `T`.
    #[track_caller]
    pub fn read<T: DeserializeOwned>(&self) -> T {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Parses the body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        self.read()
    }

    /// Returns the JSON body. The status must be 200.
    #[track_caller]
    pub fn ok(&self) -> Value {
        self.has_status(200).json()
    }

    /// Fails unless the answer has this status.
    #[track_caller]
    pub fn has_status(&self, status: u16) -> &Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// Fails unless the answer is this problem.
    #[track_caller]
    pub fn is_problem(&self, status: u16, code: &str) -> &Self {
        self.has_status(status);
        assert_eq!(self.problem(), code, "{self:?}");
        self
    }

    /// Returns the stable code of the problem. The answer must be one.
    #[track_caller]
    pub fn problem(&self) -> String {
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{self:?}"
        );
        let Problem {
            r#type,
            title,
            status,
            detail,
            code,
        } = self.read();
        assert_eq!(status, self.status, "{self:?}");
        assert!(
            !r#type.is_empty() && !title.is_empty() && !detail.is_empty(),
            "{self:?}"
        );
        let in_catalogue = Code::ALL
            .iter()
            .any(|kind| kind.status() == status && kind.as_str() == code);
        assert!(in_catalogue, "not in the catalogue: {self:?}");
        code
    }
}

/// A problem of RFC 9457, with a code.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Problem {
    r#type: String,
    title: String,
    status: u16,
    detail: String,
    code: String,
}

/// The answer to `PUT` and `DELETE`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    pub event_id: String,
    pub resource_type: String,
    pub resource_id: i64,
    pub user_id: i64,
    pub liked: bool,
    pub changed: Option<bool>,
    pub like_count: Option<i64>,
    pub durability: String,
    pub cached: bool,
}

/// The answer to `GET`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Like {
    pub resource_type: String,
    pub resource_id: i64,
    pub user_id: i64,
    pub liked: bool,
    pub like_count: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Actors {
    #[allow(dead_code, reason = "must be there")]
    sequence: u64,
    #[allow(dead_code, reason = "must be there")]
    captured_at: String,
    #[allow(dead_code, reason = "must be there")]
    uptime_seconds: f64,
    actors: Vec<Actor>,
}

/// An actor in `GET /admin/actors`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Actor {
    pub name: String,
    pub state: String,
    pub since: String,
    pub reason: Option<String>,
    pub supervision: Value,
    pub mailbox: Mailbox,
    pub tick_ms: Option<u64>,
    pub messages: Vec<Value>,
    pub waits_for: Vec<Value>,
    pub processed: u64,
    pub errors: u64,
    pub panics: u64,
    pub restarts: u64,
    pub last_error: Option<String>,
    pub details: Value,
}

/// Its mailbox.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mailbox {
    pub depth: u64,
    pub reserved: u64,
    pub capacity: u64,
    pub oldest_ms: u64,
}
