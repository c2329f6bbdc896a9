//! Expands `{resource_type}`: handlers for every type of resource are annotated once, and become one operation for
//! each type here, as `likes::routes` makes one route for each.

use utoipa::openapi::path::{Operation, Paths};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{OpenApi, Ref, RefOr};

use super::operations::operations;
use crate::domain::{ResourceType, ResourceTypes};

/// The placeholder for the type of the resource.
const TYPE: &str = "{resource_type}";

/// Replaces each path that has the placeholder by one path for each type of resource.
pub(super) fn expand(mut document: OpenApi, types: &ResourceTypes) -> OpenApi {
    let mut paths = Paths::new();
    for (path, item) in std::mem::take(&mut document.paths.paths) {
        if !path.contains(TYPE) {
            paths.paths.insert(path, item);
            continue;
        }
        for resource_type in types.iter() {
            let word = resource_type.as_str();
            let mut item = item.clone();
            for (_, operation) in operations(&mut item) {
                name(operation, word);
            }
            paths.paths.insert(path.replace(TYPE, word), item);
        }
    }
    document.paths = paths;
    document
}

/// Lists the words of the resource types, in the bodies and in the queries.
pub(super) fn list_types(document: &mut OpenApi, types: &ResourceTypes) {
    const NAME: &str = "ResourceType";
    let words: Vec<_> = types.iter().map(ResourceType::as_str).collect();
    let schema = ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(words));
    let components = document.components.get_or_insert_default();
    components.schemas.insert(NAME.to_owned(), schema.into());
    for item in document.paths.paths.values_mut() {
        for (_, operation) in operations(item) {
            let parameters = operation.parameters.iter_mut().flatten();
            for parameter in parameters {
                if let RefOr::T(parameter) = parameter
                    && parameter.name == "resource_type"
                {
                    parameter.schema = Some(Ref::from_schema_name(NAME).into());
                }
            }
        }
    }
}

fn name(operation: &mut Operation, word: &str) {
    let texts = [
        &mut operation.operation_id,
        &mut operation.summary,
        &mut operation.description,
    ];
    let parameters = operation.parameters.iter_mut().flatten();
    let described = parameters.filter_map(|parameter| match parameter {
        RefOr::T(parameter) => parameter.description.as_mut(),
        RefOr::Ref(_) => None,
    });
    for text in texts.into_iter().flatten().chain(described) {
        *text = text.replace(TYPE, word);
    }
}
