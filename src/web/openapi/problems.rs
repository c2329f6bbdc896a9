//! Adds to each operation the problems that it can answer with, from the catalogue, and the headers of its
//! responses. Problems of one status share a response in the components of the document, all of them one schema, so that
//! generated clients have one class for every problem.

use std::collections::BTreeMap;

use actix_web::http::header::{HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use serde_json::json;
use utoipa::openapi::content::{Content, ContentBuilder};
use utoipa::openapi::extensions::{Extensions, ExtensionsBuilder};
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::path::{HttpMethod, Operation, ParameterIn};
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::openapi::{OpenApi, Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

use super::operations::operations;
use crate::web::idempotency::REPLAYED;
use crate::web::limits::{FREE, RATE_LIMIT, RATE_LIMIT_POLICY};
use crate::web::problem::{CONTENT_TYPE, Code, IDEMPOTENCY_KEY, Operations, ProblemBody};

/// The schema of a problem.
const PROBLEM: &str = "Problem";

/// The extension of a response with the codes of its problems.
const CODES: &str = "x-problem-codes";

/// The headers of every response under a limit.
const LIMIT_HEADERS: [HeaderName; 2] = [RATE_LIMIT, RATE_LIMIT_POLICY];

/// The name of a header as the document spells it.
fn spelled(name: &str) -> String {
    let words = name.split('-').map(|word| match word {
        "ratelimit" => "RateLimit".to_owned(),
        "www" => "WWW".to_owned(),
        word => word[..1].to_uppercase() + &word[1..],
    });
    words.collect::<Vec<_>>().join("-")
}

/// The headers of responses, with their descriptions and examples.
fn headers() -> [(String, Header); 5] {
    [
        (
            REPLAYED,
            Type::String,
            "`true` if this is the stored response to an earlier request with the same key",
            json!("true"),
        ),
        (
            RETRY_AFTER,
            Type::Integer,
            "The number of seconds to wait",
            json!(1),
        ),
        (
            WWW_AUTHENTICATE,
            Type::String,
            "The challenge, as RFC 6750 defines it",
            json!("Bearer realm=\"likewise\""),
        ),
        (
            RATE_LIMIT,
            Type::String,
            "The remaining requests of each limit, and the seconds until its quota is available again; absent \
             without limits",
            json!("\"user\";r=99;t=1"),
        ),
        (
            RATE_LIMIT_POLICY,
            Type::String,
            "The limits; absent without any",
            json!("\"user\";q=100;w=60"),
        ),
    ]
    .map(|(name, type_, description, example)| {
        let header = HeaderBuilder::new()
            .schema(Some(ObjectBuilder::new().schema_type(type_)))
            .description(Some(description))
            .example(Some(example));
        (spelled(name.as_str()), header.build())
    })
}

fn add_headers(response: &mut Response, names: impl IntoIterator<Item = HeaderName>) {
    for name in names {
        let name = spelled(name.as_str());
        let shared = Ref::new(format!("#/components/headers/{name}"));
        response.headers.insert(name, RefOr::Ref(shared));
    }
}

/// The problems of one status.
struct Problems(Vec<Code>);

impl Problems {
    /// The problems that operations can answer with, by status.
    fn by_status() -> BTreeMap<u16, Self> {
        let mut problems = BTreeMap::new();
        for code in Code::ALL {
            if code.operations() != Operations::NoOperation {
                let Self(codes) = problems
                    .entry(code.status().as_u16())
                    .or_insert_with(|| Self(Vec::new()));
                codes.push(*code);
            }
        }
        problems
    }

    /// The header that comes with them.
    fn header(&self) -> Option<HeaderName> {
        match self.0[0].status().as_u16() {
            401 | 403 => Some(WWW_AUTHENTICATE),
            _ => {
                let waits = self.0.iter().any(|code| code.retry_after().is_some());
                waits.then_some(RETRY_AFTER)
            }
        }
    }

    fn description(&self) -> String {
        let codes = self.0.iter();
        let lines = codes.map(|code| format!("`{}`: {}", code.as_str(), code.when()));
        lines.collect::<Vec<_>>().join("\n\n")
    }

    /// The extension that lists the codes. A schema for each status would have generators make a class for each
    /// operation and status.
    fn extensions(&self) -> Extensions {
        let codes: Vec<_> = self.0.iter().map(|code| code.as_str()).collect();
        ExtensionsBuilder::new().add(CODES, json!(codes)).build()
    }

    fn content(&self) -> Content {
        let code = self.0[0];
        ContentBuilder::new()
            .schema(Some(Ref::from_schema_name(PROBLEM)))
            .example(Some(json!({
                "type": format!("urn:likewise:problem:{}", code.as_str()),
                "title": code.title(),
                "status": code.status().as_u16(),
                "detail": "what failed, on what, and what to do, for people",
                "code": code.as_str(),
            })))
            .build()
    }

    /// The shared response. Operations of `/v1/action` answer with an envelope, or with a problem if the request
    /// does not reach the route.
    fn response(&self, enclosed: bool) -> Response {
        let mut response = ResponseBuilder::new()
            .description(self.description())
            .extensions(Some(self.extensions()));
        if enclosed {
            let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(ENVELOPE)));
            response = response.content("application/json", content.build());
        }
        let mut response = response.content(CONTENT_TYPE, self.content()).build();
        add_headers(&mut response, self.header());
        add_headers(&mut response, LIMIT_HEADERS);
        response
    }

    /// Adds them to an operation that can answer with one of them.
    fn add_to(
        &self,
        described: &mut Described<'_>,
        shared: &mut BTreeMap<String, RefOr<Response>>,
    ) {
        let is_possible = self.0.iter().any(|code| described.can_answer(*code));
        let status = self.0[0].status().as_str().to_owned();
        let enclosed = described.path.starts_with(ACTION);
        let responses = &mut described.operation.responses.responses;
        match responses.get_mut(&status) {
            // The operation has a response of its own with this status.
            Some(RefOr::T(own)) if !own.content.is_empty() => {
                own.content
                    .insert(CONTENT_TYPE.to_owned(), RefOr::T(self.content()));
                add_headers(own, self.header());
                own.extensions
                    .get_or_insert_default()
                    .merge(self.extensions());
            }
            None if !is_possible => {}
            _ => {
                let word = if enclosed { "Enclosed" } else { "" };
                let name = format!("{word}Problem{status}");
                let reference = Ref::new(format!("#/components/responses/{name}"));
                responses.insert(status, RefOr::Ref(reference));
                shared
                    .entry(name)
                    .or_insert_with(|| RefOr::T(self.response(enclosed)));
            }
        }
    }
}

/// An operation of the document.
struct Described<'a> {
    path: &'a str,
    method: HttpMethod,
    operation: &'a mut Operation,
}

impl Described<'_> {
    fn is_limited(&self) -> bool {
        !FREE.contains(&self.path)
    }

    fn has_parameter(&self, is_it: impl Fn(&str, &ParameterIn) -> bool) -> bool {
        let mut parameters = self.operation.parameters.iter().flatten();
        parameters.any(
            |parameter| matches!(parameter, RefOr::T(one) if is_it(&one.name, &one.parameter_in)),
        )
    }

    fn has_header(&self, header: &str) -> bool {
        self.has_parameter(|name, _| name == header)
    }

    /// Whether the operation can answer with a problem that its annotation does not name.
    fn can_answer(&self, code: Code) -> bool {
        match code.operations() {
            Operations::All => true,
            Operations::Limited => self.is_limited(),
            Operations::Secured => {
                let security = self.operation.security.as_ref();
                security.is_some_and(|required| !required.is_empty())
            }
            Operations::Writing => self.method != HttpMethod::Get,
            Operations::Query => self.has_parameter(|_, place| *place == ParameterIn::Query),
            Operations::Header(header) => self.has_header(header),
            Operations::Annotated | Operations::NoOperation => false,
        }
    }

    /// Completes the responses that are not shared.
    fn finish(&mut self) {
        let mut names = Vec::new();
        if self.has_header(IDEMPOTENCY_KEY) {
            names.push(REPLAYED);
        }
        if self.is_limited() {
            names.extend(LIMIT_HEADERS);
        }
        let summary = self.operation.summary.clone().unwrap_or_default();
        for response in self.operation.responses.responses.values_mut() {
            let RefOr::T(response) = response else {
                continue;
            };
            if response.description.is_empty() {
                response.description.clone_from(&summary);
            }
            add_headers(response, names.iter().cloned());
        }
    }
}

/// The prefix of the paths that answer with an envelope, and the schema of an envelope with a problem.
const ACTION: &str = "/v1/action/";
const ENVELOPE: &str = "EnclosedProblem";

fn envelope() -> Schema {
    let of = |type_: Type, description| {
        let object = ObjectBuilder::new().schema_type(type_);
        object.description(Some(description))
    };
    ObjectBuilder::new()
        .property("code", of(Type::Integer, "The HTTP status."))
        .property(
            "message",
            of(Type::String, "The code of the problem, and what failed."),
        )
        .property("data", of(Type::Null, "Nothing."))
        .required("code")
        .required("message")
        .required("data")
        .description(Some("A problem in the envelope of `/v1/action`."))
        .build()
        .into()
}

/// Adds problems and headers to every operation.
pub(super) fn describe(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    let schemas = &mut components.schemas;
    schemas.insert(PROBLEM.to_owned(), ProblemBody::schema());
    schemas.insert(Code::name().into_owned(), Code::schema());
    schemas.insert(ENVELOPE.to_owned(), envelope().into());
    for (name, header) in headers() {
        components.headers.insert(name, RefOr::T(header));
    }
    let problems = Problems::by_status();
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            let mut described = Described {
                path,
                method,
                operation,
            };
            for problem in problems.values() {
                problem.add_to(&mut described, &mut components.responses);
            }
            described.finish();
        }
    }
}
