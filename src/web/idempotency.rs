//! The header `Idempotency-Key`: a request that is repeated with the same key takes effect once, and gets the same
//! response. Handlers that write take an [`IdempotencyKey`].

use std::future::{Ready, ready};
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{FromRequest, HttpRequest, HttpResponse, HttpResponseBuilder};
use ring::digest::{Context as Digest, SHA256};
use serde::Serialize;
use utoipa::IntoParams;

use super::auth::Caller;
use super::headers::printable;
use super::problem::{Code, IDEMPOTENCY_KEY, Problem};
use crate::domain::Identity;
use crate::likes::{Attempt, Keyed, Likes, Once};

/// [`IDEMPOTENCY_KEY`], parsed.
pub(super) static KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Marks a stored response.
pub(super) const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The longest key, in bytes.
const LONGEST: usize = 255;

/// The header, for the OpenAPI document.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code, reason = "only described; `IdempotencyKey` reads it")]
pub(super) struct KeyHeader {
    /// A request that is repeated with the same key takes effect once, and gets the same response.
    #[param(
        rename = "Idempotency-Key",
        nullable = false,
        min_length = 1,
        max_length = 255,
        pattern = "^[ -~]+$"
    )]
    key: Option<String>,
}

/// The key of a request, if it has one, with the method and path of the request.
pub(super) struct IdempotencyKey(Option<KeyedRoute>);

struct KeyedRoute {
    key: String,
    method: String,
    path: String,
}

impl FromRequest for IdempotencyKey {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let key = printable(request.headers(), &KEY, LONGEST).map_err(|()| {
            let detail = format!(
                "the header {IDEMPOTENCY_KEY} must be present once, with 1 to {LONGEST} printable ASCII characters"
            );
            Problem::new(Code::InvalidIdempotencyKey, detail)
        });
        ready(key.map(|key| {
            Self(key.map(|key| KeyedRoute {
                key: key.to_owned(),
                method: request.method().to_string(),
                path: request.path().to_owned(),
            }))
        }))
    }
}

/// The successful response of a handler.
pub(super) struct KeyedResponse<T> {
    /// The body.
    pub(super) body: T,
    /// Whether to store the response for the key; if not, a repeated request is processed again.
    pub(super) is_final: bool,
}

impl IdempotencyKey {
    /// Responds to a caller's request with the result of `work`, or with the stored response if the request repeats
    /// its key. `body` is the request's body, `events` the number of events that `work` draws versions for. `work` gets
    /// `likes`.
    pub(super) async fn answer<T, W, F>(
        self,
        likes: Arc<Likes>,
        (caller, body): (Caller, &[u8]),
        events: usize,
        work: W,
    ) -> Result<HttpResponse, Problem>
    where
        T: Serialize + 'static,
        W: FnOnce(Arc<Likes>, Option<Identity>) -> F + 'static,
        F: Future<Output = Result<KeyedResponse<T>, Problem>> + 'static,
    {
        let Some(KeyedRoute { key, method, path }) = self.0 else {
            let answer = work(likes, None).await?;
            return Ok(ok().body(serialized(&answer.body)?));
        };
        let caller = caller.name().into_owned();
        let keyed = Keyed {
            id: hash(&[caller.as_bytes(), key.as_bytes()]),
            fingerprint: hash(&[method.as_bytes(), path.as_bytes(), body]),
            caller,
            key,
        };
        let pipeline = Arc::clone(&likes);
        let work = move |identity| async move {
            let answer = match work(pipeline, Some(identity)).await {
                Ok(KeyedResponse { body, is_final }) => {
                    serialized(&body).map(|json| (json, is_final))
                }
                Err(problem) => Err(problem),
            };
            let keep = answer.as_ref().ok().filter(|(_, is_final)| *is_final);
            Attempt {
                keep: keep.map(|(json, _)| json.clone()),
                answer: answer.map(|(json, _)| json),
            }
        };
        match likes.once(keyed, events, work).await? {
            Once::Done(json) => Ok(ok().body(json?)),
            Once::Replayed(json) => Ok(ok().insert_header((REPLAYED, "true")).body(json)),
        }
    }
}

/// Begins a successful response of JSON. Its type is static: `ContentType::json()` would allocate for each response.
fn ok() -> HttpResponseBuilder {
    let json = HeaderValue::from_static("application/json");
    let mut response = HttpResponse::Ok();
    response.insert_header((header::CONTENT_TYPE, json));
    response
}

fn serialized<T: Serialize>(body: &T) -> Result<String, Problem> {
    serde_json::to_string(body).map_err(|error| Problem::internal(error.to_string()))
}

/// The SHA-256 of these parts, in hexadecimal. The length of each part precedes it, so that different lists of parts
/// have different hashes.
fn hash(parts: &[&[u8]]) -> String {
    let mut digest = Digest::new(&SHA256);
    for part in parts {
        digest.update(&part.len().to_be_bytes());
        digest.update(part);
    }
    hex::encode(digest.finish())
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
