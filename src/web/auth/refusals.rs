//! The problems of callers that are refused: 401 for a missing or invalid token, 403 for a missing right, with the
//! challenges of RFC 6750. They reveal nothing that the caller may not know.

use actix_web::http::header::{HeaderValue, WWW_AUTHENTICATE};

use super::jwt::BadToken;
use super::scope::Scope;
use crate::web::problem::{Code, Problem};

const NO_TOKEN: &str = "Bearer realm=\"likewise\"";
const BAD_REQUEST: &str = "Bearer realm=\"likewise\", error=\"invalid_request\"";
const BAD_TOKEN: &str = "Bearer realm=\"likewise\", error=\"invalid_token\"";
const INSUFFICIENT_SCOPE: &str = "Bearer realm=\"likewise\", error=\"insufficient_scope\"";

impl Problem {
    fn challenged(code: Code, challenge: &'static str, detail: impl Into<String>) -> Self {
        Self::new(code, detail).header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }

    /// A user must sign in.
    pub(super) fn user_unauthorized() -> Self {
        Self::challenged(
            Code::Unauthorized,
            NO_TOKEN,
            "sign in, and send the token in the header 'Authorization: Bearer TOKEN'",
        )
    }

    /// An operator must have a token, if one is configured.
    pub(super) fn admin_unauthorized(configured: bool) -> Self {
        let detail = if configured {
            "this path requires the header 'Authorization: Bearer TOKEN' with an admin token"
        } else {
            "this path is closed until LIKEWISE_ADMIN_TOKEN, or a token with an admin scope in \
             LIKEWISE_TOKENS_FILE, is configured"
        };
        Self::challenged(Code::Unauthorized, NO_TOKEN, detail)
    }

    /// A proxy must have a token; `sign` is the header or version that reveals it.
    pub(super) fn proxied(sign: &str) -> Self {
        Self::challenged(
            Code::ProxyWithoutToken,
            NO_TOKEN,
            format!(
                "the request came through a proxy ({sign}), which needs a service token with a scope for this \
                 operation: likes:write:any, likes:read, admin:read, admin:operate or data:erase; docs/sign-in.md says \
                 how to set up a gateway"
            ),
        )
    }

    /// The header `Authorization` has no token.
    pub(super) fn not_a_bearer_token() -> Self {
        Self::challenged(
            Code::Unauthorized,
            BAD_REQUEST,
            "the header Authorization must be present once, as 'Bearer TOKEN'",
        )
    }

    /// No service has this token.
    pub(super) fn unknown_token() -> Self {
        Self::challenged(
            Code::Unauthorized,
            BAD_TOKEN,
            "the token is unknown; send a known one, or none",
        )
    }

    /// A user acts for another user.
    pub(super) fn another_user() -> Self {
        Self::challenged(
            Code::Forbidden,
            INSUFFICIENT_SCOPE,
            "the header X-User-Id names another user than the token; leave it out, or sign in as that user",
        )
    }

    /// A caller reads data that belongs to another user.
    pub(super) fn not_the_owner() -> Self {
        Self::challenged(
            Code::Forbidden,
            INSUFFICIENT_SCOPE,
            "only the user may read this list; ask for /v1/users/me/likes",
        )
    }

    /// A caller has none of these scopes; one is enough.
    pub(super) fn forbidden_scope(scopes: &[Scope]) -> Self {
        let words: Vec<_> = scopes.iter().map(|scope| scope.as_str()).collect();
        let challenge = format!("{INSUFFICIENT_SCOPE}, scope=\"{}\"", words[0]);
        let challenge = HeaderValue::try_from(challenge)
            .unwrap_or_else(|_| HeaderValue::from_static(INSUFFICIENT_SCOPE));
        Self::new(
            Code::Forbidden,
            format!(
                "this needs a service token with the scope {}",
                words.join(" or ")
            ),
        )
        .header(WWW_AUTHENTICATE, challenge)
    }
}

impl From<BadToken> for Problem {
    fn from(bad: BadToken) -> Self {
        let (code, detail) = match bad {
            BadToken::Unverifiable | BadToken::UnknownKey => (
                Code::TokenInvalid,
                "the token cannot be verified: check that it is complete, and signed with a key and an \
                 algorithm that are configured here",
            ),
            BadToken::Expired => (Code::TokenExpired, "the token has expired; get a new one"),
            BadToken::NotYetValid => (
                Code::TokenNotYetValid,
                "the token is not valid yet; check the clock of its issuer",
            ),
            BadToken::NotForUs => (
                Code::TokenInvalid,
                "the token is for another audience, or from another issuer, than this service accepts",
            ),
            BadToken::Claim => (
                Code::TokenInvalid,
                "a claim of the token is missing or malformed; required are sub, exp, aud and, if one is \
                 configured, iss",
            ),
            BadToken::Subject => (
                Code::TokenInvalid,
                "the token's claim with the user, which is sub unless LIKEWISE_JWT_USER_CLAIM names another, \
                 must be the user's id: a positive whole number",
            ),
        };
        Self::challenged(code, BAD_TOKEN, detail)
    }
}
