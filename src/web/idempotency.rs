//! The header `Idempotency-Key`: a request that is sent again with the same key is done once, and answered
//! alike.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::{ContentType, HeaderName};
use actix_web::{FromRequest, HttpRequest, HttpResponse};
use ring::digest::{Context as Digest, SHA256};
use serde::Serialize;
use utoipa::IntoParams;

use super::Problem;
use super::extract::printable;
use crate::domain::Identity;
use crate::likes::{Attempt, Keyed, Likes, NotOnce, Once};

/// Says that an answer was given before.
pub(super) const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The header.
pub(super) const KEY: &str = "Idempotency-Key";

/// The longest key, in bytes.
pub(super) const LONGEST: usize = 255;

/// How a key is given.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code, reason = "only described; `IdempotencyKey` reads it")]
pub(super) struct KeyHeader {
    /// A request that is sent again with the same key is done once, and answered alike.
    #[param(
        rename = "Idempotency-Key",
        nullable = false,
        min_length = 1,
        max_length = 255,
        pattern = "^[ -~]+$"
    )]
    key: Option<String>,
}

/// The key of a request, if it has one, and what it asks for.
pub(super) struct IdempotencyKey(Option<Key>);

struct Key {
    key: String,
    method: String,
    path: String,
}

impl FromRequest for IdempotencyKey {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let key = printable(request.headers(), KEY, LONGEST);
        let key = key.ok_or_else(Problem::invalid_idempotency_key);
        ready(key.map(|key| {
            Self(key.map(|key| Key {
                key: key.to_owned(),
                method: request.method().to_string(),
                path: request.path().to_owned(),
            }))
        }))
    }
}

/// What a handler answers with 200.
pub(super) struct KeyedResponse<T> {
    /// The answer.
    pub(super) body: T,
    /// Whether it stands for as long as the key is known; if not, the request may be made again.
    pub(super) is_final: bool,
}

impl IdempotencyKey {
    /// Answers a caller's request with what `work` of so many events makes of it or, if it has a key and was
    /// answered before, with that answer. `body` is what the request asks for beside its path.
    pub(super) async fn answer<T, W, F>(
        self,
        likes: &Likes,
        (caller, body): (String, &[u8]),
        events: usize,
        work: W,
    ) -> Result<HttpResponse, Problem>
    where
        T: Serialize + 'static,
        W: FnOnce(Option<Identity>) -> F + 'static,
        F: Future<Output = Result<KeyedResponse<T>, Problem>> + 'static,
    {
        let Some(Key { key, method, path }) = self.0 else {
            let settled = work(None).await?;
            return Ok(HttpResponse::Ok().json(settled.body));
        };
        let keyed = Keyed {
            id: hash(&[caller.as_bytes(), key.as_bytes()]),
            fingerprint: hash(&[method.as_bytes(), path.as_bytes(), body]),
            caller,
            key,
        };
        let work = move |identity| async move {
            let answer = match work(Some(identity)).await {
                Ok(KeyedResponse { body, is_final }) => written(&body).map(|json| (json, is_final)),
                Err(problem) => Err(problem),
            };
            let keep = answer.as_ref().ok().filter(|(_, is_final)| *is_final);
            Attempt {
                keep: keep.map(|(json, _)| json.clone()),
                answer: answer.map(|(json, _)| json),
            }
        };
        let mut response = HttpResponse::Ok();
        response.content_type(ContentType::json());
        match likes.once(keyed, events, work).await? {
            Once::Done(json) => Ok(response.body(json?)),
            Once::Replayed(json) => Ok(response.insert_header((REPLAYED, "true")).body(json)),
        }
    }
}

fn written<T: Serialize>(body: &T) -> Result<String, Problem> {
    serde_json::to_string(body).map_err(|error| Problem::internal(error.to_string()))
}

/// The SHA-256 of these parts, in hexadecimal. Each part's length goes before it, so that no two lists of
/// parts are taken for each other.
fn hash(parts: &[&[u8]]) -> String {
    let mut digest = Digest::new(&SHA256);
    for part in parts {
        digest.update(&part.len().to_be_bytes());
        digest.update(part);
    }
    hex::encode(digest.finish())
}

impl Problem {
    fn invalid_idempotency_key() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "invalid_idempotency_key",
            "Invalid Idempotency-Key",
            format!(
                "the header Idempotency-Key must be there once, with 1 to {LONGEST} printable ASCII \
                 characters"
            ),
        )
    }
}

impl From<NotOnce> for Problem {
    fn from(error: NotOnce) -> Self {
        match error {
            NotOnce::Reused => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency_key_reused",
                "Idempotency-Key reused",
                format!("{error}; send a new key with each new request"),
            ),
            NotOnce::InProgress => Self::new(
                StatusCode::CONFLICT,
                "idempotency_key_in_progress",
                "Request in progress",
                format!("{error}; send it again shortly, with the same key"),
            )
            .retry_after(std::time::Duration::from_secs(1)),
            NotOnce::Overloaded(_) => {
                Self::overloaded(format!("{error}; nothing was changed, try again shortly"))
            }
            NotOnce::Unavailable => Self::unavailable(format!(
                "{error}; nothing was changed, and without a key likes may be taken even now"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_parts_change_the_hash() {
        assert_eq!(hash(&[b"a", b"b"]), hash(&[b"a", b"b"]));
        assert_ne!(hash(&[b"ab", b""]), hash(&[b"a", b"b"]));
        assert_ne!(hash(&[b"", b"ab"]), hash(&[b"ab", b""]));
        assert_eq!(hash(&[]).len(), 64);
    }
}
