//! The schemas of ids, which depend on their kinds. The annotations of the handlers have all ids as numbers.

use utoipa::openapi::path::ParameterIn;
use utoipa::openapi::schema::{
    KnownFormat, Object, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type,
};
use utoipa::openapi::{OpenApi, RefOr};

use super::operations::operations;
use crate::domain::{IdKind, IdKinds};
use crate::web::headers::USER as USER_HEADER;
use crate::web::ids::Ids;

/// The schemas that requests use. In them, a number may also be text.
const REQUESTS: [&str; 3] = ["Behavior", "PageItem", "LedgerFilter"];

/// Gives the ids in bodies, paths, queries and headers the schemas of their kinds.
pub(super) fn describe(document: &mut OpenApi, ids: Ids) {
    let schemas = document.components.get_or_insert_default();
    for (name, schema) in &mut schemas.schemas {
        let RefOr::T(Schema::Object(object)) = schema else {
            continue;
        };
        let is_request = REQUESTS.contains(&name.as_str());
        for (property, schema) in &mut object.properties {
            if let Some(kind) = kind_of(property, ids.kinds)
                && let RefOr::T(Schema::Object(id)) = schema
            {
                adapt(id, kind, is_request || ids.as_text, is_request);
            }
        }
    }
    for (path, item) in &mut document.paths.paths {
        if path.starts_with("/v1/action/") {
            continue;
        }
        let in_path = if path.starts_with("/v1/users/") {
            // `me` or an id.
            None
        } else {
            Some(ids.kinds.resources)
        };
        for (_, operation) in operations(item) {
            for parameter in operation.parameters.iter_mut().flatten() {
                let RefOr::T(parameter) = parameter else {
                    continue;
                };
                let kind = match parameter.parameter_in {
                    ParameterIn::Path if parameter.name == "id" => in_path,
                    ParameterIn::Query => kind_of(&parameter.name, ids.kinds),
                    ParameterIn::Header if parameter.name == USER_HEADER => Some(ids.kinds.users),
                    _ => None,
                };
                if let (Some(kind), Some(RefOr::T(Schema::Object(id)))) =
                    (kind, &mut parameter.schema)
                {
                    adapt(id, kind, false, false);
                }
                if parameter.name == "id" && in_path.is_none() && ids.kinds.users != IdKind::Number
                {
                    let text = ObjectBuilder::new().schema_type(Type::String).build();
                    parameter.schema = Some(Schema::Object(text).into());
                }
            }
        }
    }
}

fn kind_of(property: &str, kinds: IdKinds) -> Option<IdKind> {
    match property {
        "user_id" => Some(kinds.users),
        "resource_id" => Some(kinds.resources),
        _ => None,
    }
}

/// Changes the schema of a number to that of an id. `as_text` allows or, in responses, prescribes digits as text.
fn adapt(id: &mut Object, kind: IdKind, as_text: bool, is_request: bool) {
    let is_nullable =
        matches!(&id.schema_type, SchemaType::Array(types) if types.contains(&Type::Null));
    let mut types = match kind {
        IdKind::Number if !as_text => return,
        IdKind::Number if is_request => vec![Type::Integer, Type::String],
        _ => vec![Type::String],
    };
    if is_nullable {
        types.push(Type::Null);
    }
    id.schema_type = SchemaType::from_iter(types);
    match kind {
        IdKind::Number => {
            id.pattern = Some("^[1-9][0-9]{0,17}$".to_owned());
            if !is_request {
                id.format = None;
                id.minimum = None;
            }
        }
        IdKind::Uuid => {
            id.minimum = None;
            id.format = Some(SchemaFormat::KnownFormat(KnownFormat::Uuid));
        }
        IdKind::Text => {
            id.minimum = None;
            id.format = None;
            id.min_length = Some(1);
            id.max_length = Some(IdKind::MAX_LENGTH);
        }
    }
}
