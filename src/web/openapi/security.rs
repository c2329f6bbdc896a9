//! The authorization that each operation requires, which depends on the settings of the process.

use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{OpenApi, Required};

use super::operations::operations;
use crate::config::Role;
use crate::domain::ResourceTypes;
use crate::web::headers::USER as USER_HEADER;
use crate::web::ids::Ids;

/// The tag of web pages: see `web/console/`.
const PAGES: &str = "pages";
const TOKEN: &str = "token";
const USER: &str = "user";

/// The settings that the document depends on.
#[derive(Debug, Clone)]
pub struct About {
    /// The role of the process, which decides the routes.
    pub role: Role,
    /// The resource types, each of which has paths of its own.
    pub resource_types: ResourceTypes,
    /// The rules for ids.
    pub ids: Ids,
    /// Whether users must sign in.
    pub sign_in: bool,
    /// Whether `/admin` is unauthenticated.
    pub admin_is_open: bool,
    /// Whether callers without a token may read like counts in mode `jwt`.
    pub public_reads: bool,
}

/// The authorization that an operation requires. The annotation of a handler under `/v1/` names it as a security
/// scheme, such as `security(("counts" = []))`, which this room replaces; without one it is [`User`](Self::User).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    /// None.
    Open,
    /// A user.
    User,
    /// A user, or a visitor, who reads like counts only; `visitor`.
    Visitor,
    /// A caller that may read counts; `counts`.
    Counts,
    /// A caller that may read who likes a resource; `lists`.
    Lists,
    /// The user in the path; `owner`.
    Owner,
    /// A caller that may erase; `eraser`.
    Eraser,
    /// An operator.
    Operator,
    /// An operator in mode `jwt`, and any caller in mode `none`.
    Metrics,
}

impl Access {
    fn of(path: &str, operation: &Operation) -> Self {
        let requirement = |scheme| SecurityRequirement::new(scheme, [] as [&str; 0]);
        let names = |scheme| {
            let annotated = operation.security.iter().flatten();
            annotated
                .into_iter()
                .any(|found| *found == requirement(scheme))
        };
        // A page is open wherever it is, since it has no data.
        let is_page = operation.tags.iter().flatten().any(|tag| tag == PAGES);
        match path {
            _ if is_page => Self::Open,
            "/metrics" => Self::Metrics,
            path if path.starts_with("/admin/") => Self::Operator,
            path if !path.starts_with("/v1/") => Self::Open,
            _ if names("visitor") => Self::Visitor,
            _ if names("counts") => Self::Counts,
            _ if names("lists") => Self::Lists,
            _ if names("owner") => Self::Owner,
            _ if names("eraser") => Self::Eraser,
            _ => Self::User,
        }
    }
}

/// Adds the authorization that each operation requires.
pub(super) fn describe(document: &mut OpenApi, about: &About) {
    let components = document.components.get_or_insert_default();
    let token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some(if about.sign_in {
            "A user's JWT, or the token of a service or an operator."
        } else {
            "The token of a service or an operator."
        }))
        .build();
    components.add_security_scheme(TOKEN, SecurityScheme::Http(token));
    if !about.sign_in {
        let user = ApiKeyValue::with_description(
            USER_HEADER,
            "The user's id. The service trusts it, and therefore listens on loopback only.",
        );
        components.add_security_scheme(USER, SecurityScheme::ApiKey(ApiKey::Header(user)));
    }
    for (path, item) in &mut document.paths.paths {
        for (_, operation) in operations(item) {
            let access = Access::of(path, operation);
            operation.security = Some(requirements(access, about));
            let acts_for = matches!(access, Access::User | Access::Visitor | Access::Owner);
            if about.sign_in && acts_for {
                name_user(operation);
            }
        }
    }
}

fn requirements(access: Access, about: &About) -> Vec<SecurityRequirement> {
    let nothing = SecurityRequirement::default;
    let token = || SecurityRequirement::new(TOKEN, [] as [&str; 0]);
    let user = || SecurityRequirement::new(USER, [] as [&str; 0]);
    match access {
        Access::Open => Vec::new(),
        Access::Visitor | Access::Counts if about.sign_in && about.public_reads => {
            vec![nothing(), token()]
        }
        Access::User | Access::Visitor | Access::Owner if about.sign_in => vec![token()],
        Access::Visitor | Access::Owner => vec![nothing(), user(), token()],
        // With a token, a service acts for the user.
        Access::User => vec![user(), user().add(TOKEN, [] as [&str; 0])],
        Access::Operator | Access::Eraser if about.admin_is_open => vec![nothing(), token()],
        Access::Metrics | Access::Counts | Access::Lists if !about.sign_in => {
            vec![nothing(), token()]
        }
        Access::Operator | Access::Eraser | Access::Metrics | Access::Counts | Access::Lists => {
            vec![token()]
        }
    }
}

/// Adds `X-User-Id`: with sign-in, a service names the user for whom it acts.
fn name_user(operation: &mut Operation) {
    let id = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
        .minimum(Some(1));
    let header = ParameterBuilder::new()
        .name(USER_HEADER)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "The user for whom a service acts; required of services. Users may leave it out, or send their own id",
        ))
        .schema(Some(id));
    operation
        .parameters
        .get_or_insert_default()
        .push(header.build().into());
}
