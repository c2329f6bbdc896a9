//! Who may call what, as the document says it: it depends on how the process is set up.

use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{OpenApi, Required};

use super::{About, operations};

const TOKEN: &str = "token";
const USER: &str = "user";
const USER_HEADER: &str = "X-User-Id";

/// Who is asked for a token, and for which.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asks {
    /// Nobody.
    Nobody,
    /// Who works for a user.
    User,
    /// Anybody who is let in at all: the annotation says `security(())`.
    Guest,
    /// A user about themselves, who may be named by the path alone: it says `security((), ("user" = []))`.
    Owner,
    /// An operator.
    Operator,
    /// An operator, if users must sign in too.
    Watcher,
}

impl Asks {
    fn of(path: &str, operation: &Operation) -> Self {
        let annotated = operation.security.as_ref().map_or(0, Vec::len);
        match path {
            "/metrics" => Self::Watcher,
            path if path.starts_with("/admin/") => Self::Operator,
            path if path.starts_with("/v1/") => match annotated {
                0 => Self::User,
                1 => Self::Guest,
                _ => Self::Owner,
            },
            _ => Self::Nobody,
        }
    }
}

/// Says of each operation what it asks for.
pub(super) fn describe(document: &mut OpenApi, about: About) {
    let components = document.components.get_or_insert_default();
    let token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some(if about.sign_in {
            "A user's JWT, or a token of a service or an operator."
        } else {
            "A token of a service or an operator."
        }))
        .build();
    components.add_security_scheme(TOKEN, SecurityScheme::Http(token));
    if !about.sign_in {
        let user = ApiKeyValue::with_description(
            USER_HEADER,
            "The user's id. It is believed, so the service listens on loopback only.",
        );
        components.add_security_scheme(USER, SecurityScheme::ApiKey(ApiKey::Header(user)));
    }
    for (path, item) in &mut document.paths.paths {
        for (_, operation) in operations(item) {
            let asks = Asks::of(path, operation);
            operation.security = Some(requirements(asks, about));
            if about.sign_in && matches!(asks, Asks::User | Asks::Owner) {
                name_user(operation);
            }
        }
    }
}

fn requirements(asks: Asks, about: About) -> Vec<SecurityRequirement> {
    let nothing = SecurityRequirement::default;
    let token = || SecurityRequirement::new(TOKEN, [] as [&str; 0]);
    let user = || SecurityRequirement::new(USER, [] as [&str; 0]);
    match asks {
        Asks::Nobody => Vec::new(),
        Asks::User | Asks::Owner if about.sign_in => vec![token()],
        Asks::Owner => vec![nothing(), user(), token()],
        // With a token too, it is a service that works for the user.
        Asks::User => vec![user(), user().add(TOKEN, [] as [&str; 0])],
        Asks::Operator if about.admin_is_open => vec![nothing(), token()],
        Asks::Watcher | Asks::Guest if !about.sign_in => vec![nothing(), token()],
        Asks::Operator | Asks::Watcher | Asks::Guest => vec![token()],
    }
}

/// A service that has signed in says for whom it works; a user may.
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
            "For whom a service works, which it must say. A user may leave it out; it must be their own id",
        ))
        .schema(Some(id));
    operation
        .parameters
        .get_or_insert_default()
        .push(header.build().into());
}
