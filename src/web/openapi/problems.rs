//! The problems that operations answer with, and the headers that come with every answer. A handler names
//! the statuses that only it has; those of sign-in, limits and bounds are added to all.

use std::collections::BTreeMap;

use serde_json::json;
use utoipa::PartialSchema;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::path::{HttpMethod, Operation};
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{AllOfBuilder, ObjectBuilder, Schema, Type};
use utoipa::openapi::{OpenApi, Ref, RefOr};

use super::operations;
use crate::web::idempotency::KEY;
use crate::web::limits;
use crate::web::problem::{CONTENT_TYPE, ProblemBody};

/// The problems of one status.
#[derive(Debug, Clone, Copy)]
pub struct ProblemKind {
    /// The status.
    pub status: u16,
    /// Every code that comes with it.
    pub codes: &'static [&'static str],
    description: &'static str,
    header: Option<&'static str>,
    /// Which operations can answer so without naming it.
    everywhere: Everywhere,
}

#[derive(Debug, Clone, Copy)]
enum Everywhere {
    /// None.
    No,
    /// Those that read a body.
    Writing,
    /// Those that count against limits.
    Limited,
    /// Those that take an `Idempotency-Key`.
    Keyed,
    /// Those that ask for a right.
    Secured,
    /// All.
    All,
}

const RETRY_AFTER: &str = "Retry-After";
const WWW_AUTHENTICATE: &str = "WWW-Authenticate";
const REPLAYED_HEADER: &str = "Idempotency-Replayed";

/// Every problem that an operation can answer with.
pub const PROBLEMS: [ProblemKind; 15] = [
    ProblemKind {
        status: 400,
        codes: &[
            "incomplete_body",
            "invalid_behavior",
            "invalid_body",
            "invalid_idempotency_key",
            "invalid_operator",
            "invalid_parameter",
            "invalid_resource_id",
            "invalid_user_id",
            "missing_user",
        ],
        description: "The request cannot be understood",
        header: None,
        everywhere: Everywhere::Writing,
    },
    ProblemKind {
        status: 401,
        codes: &[
            "proxy_without_token",
            "token_expired",
            "token_invalid",
            "token_not_yet_valid",
            "unauthorized",
        ],
        description: "There is no token where one is needed, or it is no good",
        header: Some(WWW_AUTHENTICATE),
        everywhere: Everywhere::Limited,
    },
    ProblemKind {
        status: 403,
        codes: &["cross_site", "forbidden"],
        description: "The token does not allow this, or a page of another site asks for it",
        header: Some(WWW_AUTHENTICATE),
        everywhere: Everywhere::Secured,
    },
    ProblemKind {
        status: 404,
        codes: &["absent", "not_found", "unknown_actor"],
        description: "What the path names is not there",
        header: None,
        everywhere: Everywhere::No,
    },
    ProblemKind {
        status: 408,
        codes: &["body_timed_out"],
        description: "The body came too slowly; nothing was changed",
        header: None,
        everywhere: Everywhere::Writing,
    },
    ProblemKind {
        status: 409,
        codes: &["conflict", "idempotency_key_in_progress"],
        description: "It is in a state in which this cannot be done",
        header: Some(RETRY_AFTER),
        everywhere: Everywhere::Keyed,
    },
    ProblemKind {
        status: 413,
        codes: &["body_too_large"],
        description: "The body is too large; nothing was changed",
        header: None,
        everywhere: Everywhere::Writing,
    },
    ProblemKind {
        status: 414,
        codes: &["uri_too_long"],
        description: "Path and query are too long",
        header: None,
        everywhere: Everywhere::All,
    },
    ProblemKind {
        status: 415,
        codes: &["unsupported_media_type"],
        description: "The body is not JSON; nothing was changed",
        header: None,
        everywhere: Everywhere::Writing,
    },
    ProblemKind {
        status: 421,
        codes: &["host_not_allowed"],
        description: "This service does not answer for the host that the request is for",
        header: None,
        everywhere: Everywhere::All,
    },
    ProblemKind {
        status: 422,
        codes: &["idempotency_key_reused", "unprocessable"],
        description: "The request can be read, but makes no sense; nothing was changed",
        header: None,
        everywhere: Everywhere::Keyed,
    },
    ProblemKind {
        status: 429,
        codes: &["rate_limited"],
        description: "Too many requests; nothing was changed",
        header: Some(RETRY_AFTER),
        everywhere: Everywhere::Limited,
    },
    ProblemKind {
        status: 431,
        codes: &["headers_too_large"],
        description: "There are too many headers, or they are too large",
        header: None,
        everywhere: Everywhere::All,
    },
    ProblemKind {
        status: 500,
        codes: &["internal"],
        description: "A fault of the service",
        header: None,
        everywhere: Everywhere::All,
    },
    ProblemKind {
        status: 503,
        codes: &["overloaded", "timed_out", "unavailable"],
        description: "Not now: too much waits, or what is needed cannot be reached. To send it again is safe",
        header: Some(RETRY_AFTER),
        everywhere: Everywhere::All,
    },
];

impl ProblemKind {
    fn name(&self, enclosed: bool) -> String {
        let word = if enclosed { "Enclosed" } else { "" };
        format!("{word}Problem{}", self.status)
    }

    fn is_of(&self, path: &str, method: &HttpMethod, operation: &Operation) -> bool {
        let free = limits::FREE.contains(&path);
        let secured = operation
            .security
            .as_ref()
            .is_some_and(|asks| !asks.is_empty());
        match self.everywhere {
            Everywhere::No => false,
            Everywhere::Writing => *method != HttpMethod::Get,
            Everywhere::Limited => !free || (secured && self.status == 401),
            Everywhere::Keyed => takes_key(operation),
            Everywhere::Secured => secured,
            Everywhere::All => true,
        }
    }

    fn schema(&self) -> Schema {
        let code = ObjectBuilder::new()
            .schema_type(Type::String)
            .enum_values(Some(self.codes.iter().copied()));
        let narrowed = ObjectBuilder::new().property("code", code);
        AllOfBuilder::new()
            .item(Ref::from_schema_name("Problem"))
            .item(narrowed)
            .build()
            .into()
    }

    fn content(&self) -> utoipa::openapi::Content {
        let code = self.codes[0];
        ContentBuilder::new()
            .schema(Some(self.schema()))
            .example(Some(json!({
                "type": format!("urn:likewise:problem:{code}"),
                "title": self.description,
                "status": self.status,
                "detail": "what exactly, for people",
                "code": code,
            })))
            .build()
    }

    /// The answer; behind the envelope of `/v1/action`, it may be the one or the other, since what comes
    /// before a route is in none.
    fn response(&self, enclosed: bool) -> Response {
        let mut response = ResponseBuilder::new().description(self.description);
        if enclosed {
            let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(ENVELOPE)));
            response = response.content("application/json", content.build());
        }
        let mut response = response.content(CONTENT_TYPE, self.content()).build();
        add_headers(&mut response, self.header.iter().chain(&LIMIT_HEADERS));
        response
    }
}

/// The paths that answer with an envelope, and what it is when something went wrong.
const ACTION: &str = "/v1/action/";
const ENVELOPE: &str = "EnclosedProblem";

fn envelope() -> Schema {
    let of = |type_: Type, description| {
        let object = ObjectBuilder::new().schema_type(type_);
        object.description(Some(description))
    };
    ObjectBuilder::new()
        .property("code", of(Type::Integer, "The HTTP status."))
        .property("message", of(Type::String, "What went wrong."))
        .property("data", of(Type::Null, "Nothing."))
        .required("code")
        .required("message")
        .required("data")
        .description(Some("What went wrong, in the envelope of `/v1/action`."))
        .build()
        .into()
}

const LIMIT_HEADERS: [&str; 2] = ["RateLimit", "RateLimit-Policy"];

fn add_headers<'a>(response: &mut Response, names: impl IntoIterator<Item = &'a &'a str>) {
    for name in names {
        let shared = Ref::new(format!("#/components/headers/{name}"));
        let headers = &mut response.headers;
        headers.insert((*name).to_owned(), RefOr::Ref(shared));
    }
}

fn header(type_: Type, description: &str, example: serde_json::Value) -> Header {
    HeaderBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(type_)))
        .description(Some(description))
        .example(Some(example))
        .build()
}

/// Adds to each operation what it can answer beside what its handler names.
pub(super) fn describe(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    components
        .schemas
        .insert("Problem".to_owned(), ProblemBody::schema());
    components
        .schemas
        .insert(ENVELOPE.to_owned(), envelope().into());
    for (name, header) in headers() {
        components.headers.insert(name.to_owned(), RefOr::T(header));
    }
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            for kind in &PROBLEMS {
                attach(kind, path, &method, operation, &mut components.responses);
            }
            finish(path, operation);
        }
    }
}

/// Whether a request of this operation can have an `Idempotency-Key`.
fn takes_key(operation: &Operation) -> bool {
    let mut parameters = operation.parameters.iter().flatten();
    parameters.any(|parameter| matches!(parameter, RefOr::T(one) if one.name == KEY))
}

fn headers() -> [(&'static str, Header); 5] {
    [
        (
            REPLAYED_HEADER,
            header(
                Type::String,
                "`true` if this answer was given before, to a request with the same key",
                json!("true"),
            ),
        ),
        (
            RETRY_AFTER,
            header(Type::Integer, "How many seconds to wait", json!(1)),
        ),
        (
            WWW_AUTHENTICATE,
            header(
                Type::String,
                "What a caller must show, as RFC 6750 has it",
                json!("Bearer realm=\"likewise\""),
            ),
        ),
        (
            LIMIT_HEADERS[0],
            header(
                Type::String,
                "What is left under each limit, and when all of it is there again; absent if nothing is \
                 limited",
                json!("\"user\";r=99;t=1"),
            ),
        ),
        (
            LIMIT_HEADERS[1],
            header(
                Type::String,
                "The limits; absent if there are none",
                json!("\"user\";q=100;w=60"),
            ),
        ),
    ]
}

/// Adds a problem to an operation that can answer so, and to the answers that operations share.
fn attach(
    kind: &ProblemKind,
    path: &str,
    method: &HttpMethod,
    operation: &mut Operation,
    shared: &mut BTreeMap<String, RefOr<Response>>,
) {
    let everywhere = kind.is_of(path, method, operation);
    let status = kind.status.to_string();
    let responses = &mut operation.responses.responses;
    match responses.get_mut(&status) {
        // It answers something of its own with this status too.
        Some(RefOr::T(own)) if !own.content.is_empty() => {
            own.content
                .insert(CONTENT_TYPE.to_owned(), RefOr::T(kind.content()));
            add_headers(own, &kind.header);
        }
        None if !everywhere => {}
        _ => {
            let enclosed = path.starts_with(ACTION);
            let name = kind.name(enclosed);
            let reference = Ref::new(format!("#/components/responses/{name}"));
            responses.insert(status, RefOr::Ref(reference));
            shared
                .entry(name)
                .or_insert_with(|| RefOr::T(kind.response(enclosed)));
        }
    }
}

/// Describes the answers that are not shared.
fn finish(path: &str, operation: &mut Operation) {
    let keyed = takes_key(operation);
    let summary = operation.summary.clone().unwrap_or_default();
    for response in operation.responses.responses.values_mut() {
        let RefOr::T(response) = response else {
            continue;
        };
        if keyed {
            add_headers(response, &[REPLAYED_HEADER]);
        }
        if response.description.is_empty() {
            response.description.clone_from(&summary);
        }
        if !limits::FREE.contains(&path) {
            add_headers(response, &LIMIT_HEADERS);
        }
    }
}
