//! How many requests users and addresses may make. Answers say what is left, in the fields that the IETF
//! draft `draft-ietf-httpapi-ratelimit-headers-10` gives them.

mod address;
mod limiter;
mod quota;

use std::net::IpAddr;
use std::time::Duration;

use actix_web::HttpMessage;
use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{HttpRequest, ResponseError};

pub use address::Network;
pub use quota::Quota;

use self::limiter::{Limiter, Standing};
use super::auth::{Caller, Scope};
use super::extract::named_user;
use super::{Context, Problem};
use crate::domain::UserId;

/// What is left.
pub const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// What the limits are.
pub const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Paths that are never limited: what watches the service asks there. As they are sent, so that no other
/// spelling of another path passes for one of them.
pub(super) const FREE: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// How requests are limited.
#[derive(Debug, Clone, Default)]
pub struct LimitOptions {
    /// For each user.
    pub user: Option<Quota>,
    /// For each address.
    pub address: Option<Quota>,
    /// Proxies that say for whom they ask.
    pub trusted_proxies: Vec<Network>,
}

/// Counts requests. All workers share one.
pub struct Limits {
    user: Option<Limiter<Subject>>,
    address: Option<Limiter<IpAddr>>,
    trusted_proxies: Vec<Network>,
}

/// Whose requests are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Subject {
    User(UserId),
    Service(String),
}

/// What is left under each limit that was looked at.
type Standings = Vec<(&'static str, Quota, Standing)>;

impl Limits {
    /// Limits like these.
    #[must_use]
    pub fn new(options: &LimitOptions) -> Self {
        Self {
            user: options.user.map(Limiter::new),
            address: options.address.map(Limiter::new),
            trusted_proxies: options.trusted_proxies.clone(),
        }
    }

    /// Whether there are any.
    #[must_use]
    pub const fn any(&self) -> bool {
        self.user.is_some() || self.address.is_some()
    }

    /// Counts a request, and finds out whose it is. The address comes first, so that whoever tries out
    /// tokens is slowed down before these are looked at.
    fn check(
        &self,
        request: &HttpRequest,
        standings: &mut Standings,
    ) -> Result<Option<Caller>, Problem> {
        let auth = &Context::of(request)?.auth;
        if let Some(service) = auth.service(request.headers())
            && service.has(Scope::WriteAny)
        {
            return Ok(Some(Caller::Service(service)));
        }
        if let Some(limiter) = &self.address {
            let headers = request.headers();
            let client = address::client(request.peer_addr(), headers, &self.trusted_proxies);
            if let Some(client) = client {
                let standing = limiter.check(address::subject(client));
                note("address", limiter.quota(), standing, standings)?;
            }
        }
        let Some(limiter) = &self.user else {
            return Ok(None);
        };
        let caller = Caller::of(request)?;
        let subject = match &caller {
            Caller::User(user_id) => Some(Subject::User(*user_id)),
            Caller::Service(service) => Some(Subject::Service(service.name.clone())),
            // Without sign-in, the user is whom the header names; who names none is told so later.
            Caller::Anonymous => named_user(request.headers()).ok().map(Subject::User),
            // Refused later.
            Caller::Proxied(_) => None,
        };
        if let Some(subject) = subject {
            let standing = limiter.check(subject);
            note("user", limiter.quota(), standing, standings)?;
        }
        Ok(Some(caller))
    }
}

fn note(
    name: &'static str,
    quota: Quota,
    standing: Standing,
    standings: &mut Standings,
) -> Result<(), Problem> {
    standings.push((name, quota, standing));
    match standing.refused_for {
        None => Ok(()),
        Some(wait) => Err(Problem::rate_limited(name, quota, round_up(wait))),
    }
}

/// Whole seconds, so that who waits for so long has waited long enough.
fn round_up(wait: Duration) -> Duration {
    Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
}

fn add_headers(headers: &mut HeaderMap, standings: &Standings) {
    if standings.is_empty() {
        return;
    }
    let list = |items: Vec<String>| HeaderValue::from_str(&items.join(", ")).ok();
    let policy = standings
        .iter()
        .map(|(name, quota, _)| format!("\"{name}\";q={};w={}", quota.count(), quota.seconds()));
    let left = standings.iter().map(|(name, _, standing)| {
        let reset = round_up(standing.full_after).as_secs();
        format!("\"{name}\";r={};t={reset}", standing.remaining)
    });
    for (name, value) in [
        (RATE_LIMIT_POLICY, list(policy.collect())),
        (RATE_LIMIT, list(left.collect())),
    ] {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    }
}

/// Refuses what is too much before anything else looks at it, and says in each answer what is left.
///
/// # Errors
/// Those of what it calls.
pub async fn limit<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    if FREE.contains(&request.path()) {
        return Ok(next.call(request).await?.map_into_left_body());
    }
    let mut standings = Standings::new();
    let checked = {
        let request = request.request();
        Context::of(request)?.limits.check(request, &mut standings)
    };
    let mut response = match checked {
        Ok(caller) => {
            if let Some(caller) = caller {
                request.extensions_mut().insert(caller);
            }
            next.call(request).await?.map_into_left_body()
        }
        Err(problem) => request
            .into_response(problem.error_response())
            .map_into_right_body(),
    };
    add_headers(response.headers_mut(), &standings);
    Ok(response)
}

impl Problem {
    fn rate_limited(name: &str, quota: Quota, wait: Duration) -> Self {
        Self::new(
            actix_web::http::StatusCode::TOO_MANY_REQUESTS,
            "rate_limited",
            "Too many requests",
            format!(
                "each {name} may make {} requests in {} seconds; nothing was changed, try again in \
                 {} s",
                quota.count(),
                quota.seconds(),
                wait.as_secs()
            ),
        )
        .retry_after(wait)
    }
}
