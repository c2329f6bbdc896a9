//! `/admin/actors`: how every actor is doing, and what an operator can do to one: pause, resume, restart.

use actix_web::web::{Data, Json, Path};
use actor_kit::{ActorReport, Registry, Snapshot, Unheeded};

use crate::telemetry::ActorOperated;
use crate::web::operator::{Operator, OperatorHeader};
use crate::web::problem::{Code, Problem};

/// How every actor is doing, in the order of the flow.
#[utoipa::path(
    get,
    path = "/admin/actors",
    tag = "admin",
    operation_id = "list_actors",
    responses((status = 200, body = Snapshot))
)]
pub(super) async fn list(registry: Data<Registry>) -> Json<Snapshot> {
    Json(registry.snapshot())
}

/// How an actor is doing.
#[utoipa::path(
    get,
    path = "/admin/actors/{name}",
    tag = "admin",
    operation_id = "show_actor",
    params(("name" = String, Path, description = "The actor's name", example = "retry_scheduler")),
    responses((status = 200, body = ActorReport), (status = 404))
)]
pub(super) async fn show(
    registry: Data<Registry>,
    name: Path<String>,
) -> Result<Json<ActorReport>, Problem> {
    report_of(&registry, &name)
}

/// Pauses an actor of this process.
///
/// Its messages stay queued, no tick starts, and what runs ends. Requests that need it get 503; without the publisher,
/// likes go to the database. A restart of the process resumes it.
#[utoipa::path(
    post,
    path = "/admin/actors/{name}/pause",
    tag = "admin",
    operation_id = "pause_actor",
    params(("name" = String, Path, description = "The actor's name", example = "retry_scheduler"), OperatorHeader),
    responses((status = 200, body = ActorReport), (status = 400), (status = 404), (status = 409))
)]
pub(super) async fn pause(
    registry: Data<Registry>,
    name: Path<String>,
    Operator(operator): Operator,
) -> Result<Json<ActorReport>, Problem> {
    let paused = registry.pause(&name, format!("paused by {operator}"));
    operated(&registry, &name, &operator, "paused", paused)
}

/// Resumes an actor of this process that is paused.
#[utoipa::path(
    post,
    path = "/admin/actors/{name}/resume",
    tag = "admin",
    operation_id = "resume_actor",
    params(("name" = String, Path, description = "The actor's name", example = "retry_scheduler"), OperatorHeader),
    responses((status = 200, body = ActorReport), (status = 400), (status = 404), (status = 409))
)]
pub(super) async fn resume(
    registry: Data<Registry>,
    name: Path<String>,
    Operator(operator): Operator,
) -> Result<Json<ActorReport>, Problem> {
    let resumed = registry.resume(&name);
    operated(&registry, &name, &operator, "resumed", resumed)
}

/// Restarts an actor of this process, as after a panic: its messages stay, and its schedule begins anew.
#[utoipa::path(
    post,
    path = "/admin/actors/{name}/restart",
    tag = "admin",
    operation_id = "restart_actor",
    params(("name" = String, Path, description = "The actor's name", example = "retry_scheduler"), OperatorHeader),
    responses((status = 200, body = ActorReport), (status = 400), (status = 404), (status = 409))
)]
pub(super) async fn restart(
    registry: Data<Registry>,
    name: Path<String>,
    Operator(operator): Operator,
) -> Result<Json<ActorReport>, Problem> {
    let restarted = registry.restart(&name).map(|()| true);
    operated(&registry, &name, &operator, "restarted", restarted)
}

/// Logs an operation that changed something, and returns the actor's report.
fn operated(
    registry: &Registry,
    name: &str,
    operator: &str,
    action: &'static str,
    changed: Result<bool, Unheeded>,
) -> Result<Json<ActorReport>, Problem> {
    if changed.map_err(|error| unheeded(name, error))? {
        ActorOperated {
            actor: name,
            action,
            operator,
        }
        .emit();
    }
    report_of(registry, name)
}

fn report_of(registry: &Registry, name: &str) -> Result<Json<ActorReport>, Problem> {
    let report = registry.report_of(name);
    report
        .map(Json)
        .ok_or_else(|| unheeded(name, Unheeded::Unknown))
}

/// The problem of an actor that takes no commands.
pub(super) fn unheeded(name: &str, error: Unheeded) -> Problem {
    match error {
        Unheeded::Unknown => {
            let detail = format!("no actor is called '{name:.40}'; see /admin/actors");
            Problem::new(Code::UnknownActor, detail)
        }
        Unheeded::NotRunning => {
            let detail =
                format!("{name} does not run in this process; /admin/actors has the reason");
            Problem::new(Code::Conflict, detail)
        }
    }
}
