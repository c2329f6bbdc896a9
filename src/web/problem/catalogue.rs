//! The catalogue of problems: every code that the HTTP API answers with, written once. A new problem is a new
//! entry here. `Problem` takes the status, the title and `Retry-After` from it, `openapi/problems.rs` the
//! answers of each operation, and a test compares the table of `docs/API.md` with it.

use actix_web::http::StatusCode;

/// The operations that can answer with a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::web) enum Operations {
    /// Every operation.
    All,
    /// Operations that count against the rate limits.
    Limited,
    /// Operations that require authorization.
    Secured,
    /// Operations with a method that changes something, which may have a body.
    Writing,
    /// Operations with query parameters.
    Query,
    /// Operations with this header parameter.
    Header(&'static str),
    /// Operations whose annotation names the status.
    Annotated,
    /// None: a path answers so for a method without an operation.
    NoOperation,
}

/// The header that makes a write idempotent.
pub(in crate::web) const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// The header that names the operator.
pub(in crate::web) const OPERATOR: &str = "X-Operator";

macro_rules! catalogue {
    ($(
        $(#[doc = $when:literal])+
        $name:ident: $status:ident, $code:literal, $title:literal, $operations:expr
        $(, retry_after $seconds:literal)?;
    )+) => {
        /// What kind of problem it is. The doc of each variant says when the API answers with it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code {
            $( $(#[doc = $when])+ $name, )+
        }

        impl Code {
            /// Every code, ordered by status.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The stable code, for programs.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }

            /// The HTTP status.
            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)+ }
            }

            /// The title, for people.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)+ }
            }

            /// When the API answers with it, in Markdown.
            #[must_use]
            pub const fn when(self) -> &'static str {
                match self { $(Self::$name => concat!($($when),+).trim_ascii(),)+ }
            }

            /// The default of `Retry-After`, in seconds.
            pub(in crate::web) const fn retry_after(self) -> Option<u64> {
                match self { $($(Self::$name => Some($seconds),)?)+ _ => None }
            }

            /// The operations that can answer with it.
            pub(in crate::web) const fn operations(self) -> Operations {
                use Operations::*;
                match self { $(Self::$name => $operations,)+ }
            }
        }
    };
}

catalogue! {
    /// The body ended before it was complete.
    IncompleteBody: BAD_REQUEST, "incomplete_body", "Incomplete body", Writing;
    /// An item of a batch is not a valid behavior.
    InvalidBehavior: BAD_REQUEST, "invalid_behavior", "Invalid behavior", Writing;
    /// The body is not the JSON that the operation expects.
    InvalidBody: BAD_REQUEST, "invalid_body", "Invalid body", Writing;
    /// The header `Idempotency-Key` is repeated, empty, too long or not ASCII.
    InvalidIdempotencyKey: BAD_REQUEST, "invalid_idempotency_key", "Invalid Idempotency-Key",
        Header(IDEMPOTENCY_KEY);
    /// The header `X-Operator` is repeated, empty, too long or not ASCII.
    InvalidOperator: BAD_REQUEST, "invalid_operator", "Invalid operator", Header(OPERATOR);
    /// A parameter of the path or the query is invalid.
    InvalidParameter: BAD_REQUEST, "invalid_parameter", "Invalid parameter", Query;
    /// The deployment does not accept the resource id in the path.
    InvalidResourceId: BAD_REQUEST, "invalid_resource_id", "Invalid resource id", Annotated;
    /// The deployment does not accept the id of the user in `X-User-Id` or in the path.
    InvalidUserId: BAD_REQUEST, "invalid_user_id", "Invalid user id", Annotated;
    /// The header `X-User-Id` is missing.
    MissingUser: BAD_REQUEST, "missing_user", "Missing user", Annotated;

    /// In mode `none`, the request came through a proxy and has no token.
    ProxyWithoutToken: UNAUTHORIZED, "proxy_without_token", "Token needed behind a proxy", Secured;
    /// The token has expired.
    TokenExpired: UNAUTHORIZED, "token_expired", "Token expired", Limited;
    /// The token cannot be verified, or one of its claims is missing or invalid.
    TokenInvalid: UNAUTHORIZED, "token_invalid", "Token not accepted", Limited;
    /// The token is not valid yet.
    TokenNotYetValid: UNAUTHORIZED, "token_not_yet_valid", "Token not yet valid", Limited;
    /// The operation requires a token, or the token is unknown.
    Unauthorized: UNAUTHORIZED, "unauthorized", "Unauthorized", Secured;

    /// A web page of another origin sent the request.
    CrossSite: FORBIDDEN, "cross_site", "Cross-site request refused", Secured;
    /// The token does not allow the operation, or `X-User-Id` or the path names another user.
    Forbidden: FORBIDDEN, "forbidden", "Forbidden", Secured;

    /// The path names something that does not exist.
    Absent: NOT_FOUND, "absent", "Not there", Annotated;
    /// No route has this path.
    NotFound: NOT_FOUND, "not_found", "No such route", Annotated;
    /// No actor has this name.
    UnknownActor: NOT_FOUND, "unknown_actor", "No such actor", Annotated;
    /// No process with this id has reported within the last hour.
    UnknownProcess: NOT_FOUND, "unknown_process", "No such process", Annotated;

    /// The path does not support the method. The header `Allow` lists the methods that it supports.
    MethodNotAllowed: METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed", NoOperation;

    /// The body did not arrive in time. Nothing was changed.
    BodyTimedOut: REQUEST_TIMEOUT, "body_timed_out", "Body timed out", Writing;

    /// The current state does not allow the operation.
    Conflict: CONFLICT, "conflict", "Conflict", Annotated;
    /// Another request with the same `Idempotency-Key` is in progress.
    IdempotencyKeyInProgress: CONFLICT, "idempotency_key_in_progress", "Request in progress",
        Header(IDEMPOTENCY_KEY), retry_after 1;

    /// The resource was erased. Nothing of it is kept.
    ResourceErased: GONE, "resource_erased", "Resource erased", Annotated;
    /// The user was erased. Nothing of the user is kept.
    UserErased: GONE, "user_erased", "User erased", Annotated;

    /// The body is too large. Nothing was changed.
    BodyTooLarge: PAYLOAD_TOO_LARGE, "body_too_large", "Body too large", Writing;

    /// Path and query are too long.
    UriTooLong: URI_TOO_LONG, "uri_too_long", "URI too long", All;

    /// The `Content-Type` of the body is not `application/json` (or `+json`). Nothing was changed.
    UnsupportedMediaType: UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "Unsupported media type",
        Writing;

    /// The request is for a host that is not in `LIKEWISE_HTTP_HOSTS`.
    HostNotAllowed: MISDIRECTED_REQUEST, "host_not_allowed", "Host not allowed", All;

    /// An earlier, different request had the same `Idempotency-Key`. Nothing was changed.
    IdempotencyKeyReused: UNPROCESSABLE_ENTITY, "idempotency_key_reused", "Idempotency-Key reused",
        Header(IDEMPOTENCY_KEY);
    /// The body can be read, but a value in it is not acceptable. Nothing was changed.
    Unprocessable: UNPROCESSABLE_ENTITY, "unprocessable", "Unprocessable", Annotated;

    /// The user or the address exceeds its rate limit. Nothing was changed.
    RateLimited: TOO_MANY_REQUESTS, "rate_limited", "Too many requests", Limited, retry_after 1;

    /// The request has too many headers, or they are too large.
    HeadersTooLarge: REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large", "Headers too large", All;

    /// The service failed. Its log has the cause.
    Internal: INTERNAL_SERVER_ERROR, "internal", "Internal error", All;

    /// Too many requests are waiting. Nothing was changed.
    Overloaded: SERVICE_UNAVAILABLE, "overloaded", "Overloaded", All, retry_after 1;
    /// The request took too long. It may still take effect, and sending it again is safe.
    TimedOut: SERVICE_UNAVAILABLE, "timed_out", "Timed out", All, retry_after 1;
    /// The process has as many connections that watch as it accepts.
    TooManyWatchers: SERVICE_UNAVAILABLE, "too_many_watchers", "Too many watchers", Annotated, retry_after 5;
    /// A dependency is unavailable. Sending the request again is safe.
    Unavailable: SERVICE_UNAVAILABLE, "unavailable", "Unavailable", All, retry_after 2;
}
