//! `POST /v1/action/like`: likes or unlikes a video or a comment.

use actix_web::HttpResponse;
use actix_web::web::Data;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, ObjectBuilder, OneOfBuilder, Schema, SchemaType, Type};

use super::envelope::Envelope;
use crate::domain::{BehaviorType, Resource, ResourceType};
use crate::likes::{LikeRequest, Likes};
use crate::web::auth::User;
use crate::web::extract::{Bytes, invalid_body, json as read};
use crate::web::headers::positive;
use crate::web::idempotency::{IdempotencyKey, KeyHeader};
use crate::web::ids::Ids;
use crate::web::likes::{AcceptedBody, answer_like};
use crate::web::problem::Problem;
use crate::web::trace::Trace;

/// A like or unlike of one of two ids. Ids and action are numbers or text; an id that is 0, empty or null counts as
/// absent. Other fields are ignored.
#[derive(Debug, Deserialize, ToSchema)]
pub(in crate::web) struct LikeAction {
    #[serde(default)]
    #[schema(schema_with = id_schema)]
    video_id: Value,
    #[serde(default)]
    #[schema(schema_with = id_schema)]
    comment_id: Value,
    #[serde(default)]
    #[schema(schema_with = action_schema, required = true)]
    action_type: Value,
}

impl LikeAction {
    fn resource(&self) -> Result<Resource, Problem> {
        let video = id("video_id", &self.video_id)?;
        let comment = id("comment_id", &self.comment_id)?;
        let resource = |resource_type, id: i64| Resource {
            resource_type,
            id: id.into(),
        };
        match (video, comment) {
            (Some(id), None) => Ok(resource(ResourceType::VIDEO, id)),
            (None, Some(id)) => Ok(resource(ResourceType::COMMENT, id)),
            (None, None) => Err(invalid_body("video_id or comment_id is required")),
            (Some(_), Some(_)) => Err(invalid_body("video_id and comment_id exclude each other")),
        }
    }

    fn behavior(&self) -> Result<BehaviorType, Problem> {
        match text(&self.action_type).as_str() {
            "1" | "like" => Ok(BehaviorType::Like),
            "2" | "unlike" => Ok(BehaviorType::Unlike),
            found => Err(invalid_body(&format!(
                "action_type must be \"1\" or \"like\", \"2\" or \"unlike\", got '{found:.40}'"
            ))),
        }
    }
}

/// The schema of an id: a number, or text in digits, or null.
fn id_schema() -> Object {
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([
            Type::Integer,
            Type::String,
            Type::Null,
        ]))
        .minimum(Some(0))
        .pattern(Some("^[0-9]*$"))
        .build()
}

/// The schema of an action. Generators support enums of one type.
fn action_schema() -> Schema {
    let words = ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(["1", "2", "like", "unlike"]));
    let numbers = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .enum_values(Some([1, 2]));
    OneOfBuilder::new().item(words).item(numbers).build().into()
}

/// Reads an id; `None` if it is absent.
fn id(name: &str, value: &Value) -> Result<Option<i64>, Problem> {
    let text = text(value);
    if ["", "0"].contains(&text.as_str()) {
        return Ok(None);
    }
    positive(&text).map(Some).ok_or_else(|| {
        invalid_body(&format!(
            "{name} must be a number from 1 to {}, got '{text:.40}'",
            i64::MAX
        ))
    })
}

/// A value as text, without quotes; empty for null.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

/// Likes or unlikes a video or a comment.
#[utoipa::path(
    post,
    path = "/v1/action/like",
    tag = "action",
    operation_id = "action_like",
    params(KeyHeader),
    request_body(
        content = LikeAction,
        example = json!({"video_id": "7", "comment_id": "", "action_type": "1"})
    ),
    responses((status = 200, body = Envelope<AcceptedBody>), (status = 410))
)]
pub(in crate::web) async fn like(
    likes: Data<Likes>,
    ids: Ids,
    User(user_id): User,
    Trace(trace): Trace,
    key: IdempotencyKey,
    Bytes(bytes): Bytes,
) -> Result<HttpResponse, Problem> {
    let action: LikeAction = read(&bytes)?;
    let resource = action.resource()?;
    let served = likes.resource_types().served(resource.resource_type);
    served.map_err(|error| invalid_body(&error.to_string()))?;
    let id = ids.resource(resource.id.clone());
    id.map_err(|error| invalid_body(&format!("the id {error}; use /v1/{{type}}s/{{id}}/like")))?;
    let request = LikeRequest {
        user_id,
        resource,
        behavior: action.behavior()?,
        trace,
    };
    answer_like(likes, ids, request, key, &bytes, Envelope::of).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(text: &str) -> Result<(Resource, BehaviorType), Problem> {
        let action: LikeAction = serde_json::from_str(text).expect("JSON");
        Ok((action.resource()?, action.behavior()?))
    }

    #[test]
    fn every_client_form_of_ids_and_actions_is_read() {
        let video = (Resource::video(7), BehaviorType::Like);
        for text in [
            r#"{"video_id": 7, "action_type": "1"}"#,
            r#"{"video_id": "7", "comment_id": "", "action_type": "like"}"#,
            r#"{"video_id": "7", "comment_id": 0, "action_type": 1, "extra": {}}"#,
            r#"{"video_id": 7, "comment_id": null, "action_type": "1"}"#,
        ] {
            assert_eq!(action(text).expect(text), video, "{text}");
        }
        let comment = action(r#"{"video_id": "0", "comment_id": "9", "action_type": 2}"#);
        let (resource, behavior) = comment.expect("a comment");
        assert_eq!(
            (resource.resource_type, resource.id),
            (ResourceType::COMMENT, 9.into())
        );
        assert_eq!(behavior, BehaviorType::Unlike);
        for text in [
            r#"{"action_type": "1"}"#,
            r#"{"video_id": 7, "comment_id": 9, "action_type": "1"}"#,
            r#"{"video_id": -7, "action_type": "1"}"#,
            r#"{"video_id": 7.5, "action_type": "1"}"#,
            r#"{"video_id": [7], "action_type": "1"}"#,
            r#"{"video_id": "seven", "action_type": "1"}"#,
            r#"{"video_id": 7}"#,
            r#"{"video_id": 7, "action_type": "3"}"#,
            r#"{"video_id": 7, "action_type": true}"#,
        ] {
            assert!(action(text).is_err(), "{text}");
        }
    }
}
