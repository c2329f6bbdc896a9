//! Rate limits for users and addresses. Responses have the headers of the IETF draft
//! `draft-ietf-httpapi-ratelimit-headers-10`.

mod address;
mod limiter;

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{HttpMessage, HttpRequest};

use self::limiter::{Limiter, Usage};
use super::app_data::shared;
use super::auth::{Auth, Caller, Scope, caller};
use super::headers::named_user;
use super::problem::{Code, Problem};
use crate::config::{LimitOptions, Network, Quota};
use crate::domain::UserId;

/// The header with the remaining requests.
pub const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// The header with the limits.
pub const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Paths without limits, for monitoring. They are compared as sent, so that no spelling of another path matches.
pub(super) const FREE: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// Counts requests. All HTTP workers share it.
pub struct Limits {
    user: Option<Limiter<Account>>,
    address: Option<Limiter<IpAddr>>,
    trusted_proxies: Vec<Network>,
}

/// The account that a request counts against.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Account {
    User(UserId),
    Service(String),
}

/// The usage of each limit that a request counts against, by the limit's name.
type Usages = Vec<(&'static str, Quota, Usage)>;

impl Limits {
    /// Limits with these options.
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

    /// Counts a request, and identifies its caller if a limit needs that. The address comes first, which slows
    /// down attempts to guess tokens.
    fn check(&self, request: &HttpRequest, usages: &mut Usages) -> Result<Option<Caller>, Problem> {
        let auth = shared::<Auth>(request)?;
        if let Some(service) = auth.service(request.headers())
            && service.has(Scope::WriteAny)
        {
            return Ok(Some(Caller::Service(service)));
        }
        if let Some(limiter) = &self.address {
            let headers = request.headers();
            let client = address::client(request.peer_addr(), headers, &self.trusted_proxies);
            if let Some(client) = client {
                let usage = limiter.check(address::customer(client));
                record("address", limiter.quota(), usage, usages)?;
            }
        }
        let Some(limiter) = &self.user else {
            return Ok(None);
        };
        let caller = caller(request)?;
        let account = match &caller {
            Caller::User(user_id) => Some(Account::User(user_id.clone())),
            Caller::Service(service) => Some(Account::Service(service.name.clone())),
            // In mode `jwt`, a request without a token must not use up the quota of the user that it names.
            Caller::Anonymous if auth.is_required() => None,
            // Without sign-in, the header names the user.
            Caller::Anonymous => named_user(request.headers(), auth.user_ids())
                .ok()
                .map(Account::User),
            // The handler refuses it.
            Caller::Proxied(_) => None,
        };
        if let Some(account) = account {
            let usage = limiter.check(account);
            record("user", limiter.quota(), usage, usages)?;
        }
        Ok(Some(caller))
    }
}

fn record(
    name: &'static str,
    quota: Quota,
    usage: Usage,
    usages: &mut Usages,
) -> Result<(), Problem> {
    usages.push((name, quota, usage));
    let Some(wait) = usage.retry_after.map(round_up) else {
        return Ok(());
    };
    let detail = format!(
        "each {name} may make {} requests in {} seconds; nothing was changed, try again in {} s",
        quota.count(),
        quota.seconds(),
        wait.as_secs()
    );
    Err(Problem::new(Code::RateLimited, detail).retry_after(wait))
}

/// Rounds up to whole seconds, so that a client that waits for them is not too early.
fn round_up(wait: Duration) -> Duration {
    Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
}

fn add_headers(headers: &mut HeaderMap, usages: &Usages) {
    if usages.is_empty() {
        return;
    }
    let (mut policy, mut left) = (String::new(), String::new());
    let mut comma = "";
    for (name, quota, usage) in usages {
        let reset = round_up(usage.reset_after).as_secs();
        let (count, seconds) = (quota.count(), quota.seconds());
        // Writing to a `String` cannot fail.
        let _ = write!(policy, "{comma}\"{name}\";q={count};w={seconds}");
        let _ = write!(left, "{comma}\"{name}\";r={};t={reset}", usage.remaining);
        comma = ", ";
    }
    for (name, text) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, left)] {
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(name, value);
        }
    }
}

/// Refuses requests over a limit, and adds the headers of the limits to responses.
///
/// # Errors
/// Those of the inner service.
pub async fn limit<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    if FREE.contains(&request.path()) {
        return Ok(next.call(request).await?.map_into_left_body());
    }
    let mut usages = Usages::new();
    let checked = {
        let request = request.request();
        shared::<Limits>(request)?.check(request, &mut usages)
    };
    let mut response = match checked {
        Ok(caller) => {
            if let Some(caller) = caller {
                request.extensions_mut().insert(caller);
            }
            next.call(request).await?.map_into_left_body()
        }
        Err(problem) => request.error_response(problem).map_into_right_body(),
    };
    add_headers(response.headers_mut(), &usages);
    Ok(response)
}
