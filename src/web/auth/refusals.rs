//! The problems of callers who are not let in: 401 for a token that is missing or no good, 403 for a
//! right that is missing, with the challenges of RFC 6750. None says more than a caller may know.

use actix_web::http::StatusCode;

use super::Scope;
use super::jwt::BadToken;
use crate::web::Problem;

const NO_TOKEN: &str = "Bearer realm=\"likewise\"";
const BAD_REQUEST: &str = "Bearer realm=\"likewise\", error=\"invalid_request\"";
const BAD_TOKEN: &str = "Bearer realm=\"likewise\", error=\"invalid_token\"";

impl Problem {
    fn challenged(
        code: &'static str,
        title: &'static str,
        challenge: &str,
        detail: impl Into<String>,
    ) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, title, detail).challenge(challenge.to_owned())
    }

    fn unauthorized(challenge: &str, detail: impl Into<String>) -> Self {
        Self::challenged("unauthorized", "Unauthorized", challenge, detail)
    }

    /// Nobody has signed in where a user must have.
    pub(super) fn user_unauthorized() -> Self {
        Self::unauthorized(
            NO_TOKEN,
            "sign in, and send your token in the header 'Authorization: Bearer TOKEN'",
        )
    }

    /// Nobody has shown a token where an operator must have.
    pub(super) fn admin_unauthorized(configured: bool) -> Self {
        Self::unauthorized(
            NO_TOKEN,
            if configured {
                "this path asks for the header 'Authorization: Bearer TOKEN' with an admin token"
            } else {
                "this path is closed until LIKEWISE_ADMIN_TOKEN, or a token with an admin scope in \
                 LIKEWISE_TOKENS_FILE, is configured"
            },
        )
    }

    /// A proxy calls for somebody, and shows no token.
    pub(super) fn proxied(sign: &str) -> Self {
        Self::challenged(
            "proxy_without_token",
            "Token needed behind a proxy",
            NO_TOKEN,
            format!(
                "the request came through a proxy ({sign}), which must show a service token with a scope \
                 for what is asked: likes:write:any, likes:read, admin:read or admin:operate; the \
                 README says how to set up a gateway"
            ),
        )
    }

    /// The header is there, and has no token.
    pub(super) fn not_a_bearer_token() -> Self {
        Self::unauthorized(
            BAD_REQUEST,
            "the header Authorization must be there once, as 'Bearer TOKEN'",
        )
    }

    /// No service has this token.
    pub(super) fn unknown_token() -> Self {
        Self::unauthorized(
            BAD_TOKEN,
            "this token is not known here; send one that is, or none",
        )
    }

    /// A user's token is used for somebody else.
    pub(super) fn another_user() -> Self {
        Self::forbidden(
            "the header X-User-Id names somebody else than the token; leave it out, or sign in as \
             that user",
        )
        .challenge("Bearer realm=\"likewise\", error=\"insufficient_scope\"".to_owned())
    }

    /// Somebody asks for what is another user's.
    pub(super) fn not_the_owner() -> Self {
        Self::forbidden("what a user likes is shown to that user alone; ask for /v1/users/me/likes")
            .challenge("Bearer realm=\"likewise\", error=\"insufficient_scope\"".to_owned())
    }

    /// A caller lacks all of these scopes, each of which would do.
    pub(super) fn forbidden_scope(scopes: &[Scope]) -> Self {
        let words: Vec<_> = scopes.iter().map(|scope| scope.as_str()).collect();
        Self::forbidden(format!(
            "this needs a service token with the scope {}",
            words.join(" or ")
        ))
        .challenge(format!(
            "Bearer realm=\"likewise\", error=\"insufficient_scope\", scope=\"{}\"",
            words[0]
        ))
    }

    fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "Forbidden", detail)
    }
}

impl From<BadToken> for Problem {
    fn from(bad: BadToken) -> Self {
        let invalid =
            |detail| Self::challenged("token_invalid", "Token not accepted", BAD_TOKEN, detail);
        match bad {
            BadToken::Unverifiable => invalid(
                "the token is not one that this service can verify: check that it is whole, and \
                 signed with a key and an algorithm that are configured here",
            ),
            BadToken::Expired => Self::challenged(
                "token_expired",
                "Token expired",
                BAD_TOKEN,
                "the token has expired; get a new one",
            ),
            BadToken::NotYetValid => Self::challenged(
                "token_not_yet_valid",
                "Token not yet valid",
                BAD_TOKEN,
                "the token's time has not come; check the clock of who issued it",
            ),
            BadToken::NotForUs => invalid(
                "the token is for another audience, or from another issuer, than this service takes",
            ),
            BadToken::Claim => invalid(
                "the token lacks a claim that is required, or has one in a wrong form; required are \
                 sub, exp, aud and, if one is configured, iss",
            ),
            BadToken::Subject => invalid(
                "the token's sub must be the user: a whole number from 1 on, in digits, as text",
            ),
        }
    }
}
