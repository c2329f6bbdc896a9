//! `/admin/actors`: how every actor is doing, in this process or in all of the deployment, and what an operator can do to
//! one: pause, resume, restart.

use actix_web::HttpRequest;
use actix_web::web::{Data, Json, Path};
use actor_kit::{ActorReport, Registry, Snapshot, Unheeded};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::actors::process_reports::{
    ActorAction, CommandFailed, DeploymentReport, ProcessReports,
};
use crate::admin::ActorOperations;
use crate::web::operator::{Operator, OperatorHeader};
use crate::web::parameters::query;
use crate::web::problem::{Code, Problem};

/// Whose actors are reported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Scope {
    /// Those of the process that answers.
    #[default]
    Process,
    /// Those of every process of the deployment.
    Cluster,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    /// Whose actors are reported; by default those of the process that answers.
    #[serde(default)]
    #[param(inline)]
    pub(super) scope: Scope,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Where {
    /// The id of the process that has the actor, from `?scope=cluster`; by default the process that answers.
    #[param(nullable = false, max_length = 64)]
    process: Option<String>,
}

/// The actors of this process, or the last reports of all processes.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Actors {
    /// With `scope=process`.
    Process(Snapshot),
    /// With `scope=cluster`.
    Cluster(DeploymentReport),
}

/// An actor of this process, or of all processes.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[allow(clippy::large_enum_variant, reason = "one is made for an answer")]
pub(super) enum ActorAnswer {
    /// With `scope=process`.
    Process(ActorReport),
    /// With `scope=cluster`.
    Cluster(DeploymentReport),
}

/// How every actor is doing, in the order of the flow.
///
/// With `scope=cluster`, the last report of each process of the deployment, which arrives about once a second. A process
/// that ended or fell silent is listed with its last report for an hour. Without NATS, only this process is listed.
#[utoipa::path(
    get,
    path = "/admin/actors",
    tag = "admin",
    operation_id = "list_actors",
    params(Which),
    responses((status = 200, body = Actors))
)]
pub(super) async fn list(
    registry: Data<Registry>,
    reports: Data<ProcessReports>,
    request: HttpRequest,
) -> Result<Json<Actors>, Problem> {
    let which: Which = query(&request)?;
    Ok(Json(Actors::of(which.scope, &registry, &reports)))
}

impl Actors {
    /// Returns the report of this scope.
    pub(super) fn of(scope: Scope, registry: &Registry, reports: &ProcessReports) -> Self {
        match scope {
            Scope::Process => Self::Process(registry.snapshot()),
            Scope::Cluster => Self::Cluster(reports.deployment(None)),
        }
    }
}

/// How an actor is doing.
///
/// With `scope=cluster`, in each process of the deployment.
#[utoipa::path(
    get,
    path = "/admin/actors/{name}",
    tag = "admin",
    operation_id = "show_actor",
    params(("name" = String, Path, description = "The actor's name", example = "retry_scheduler"), Which),
    responses((status = 200, body = ActorAnswer), (status = 404))
)]
pub(super) async fn show(
    registry: Data<Registry>,
    reports: Data<ProcessReports>,
    name: Path<String>,
    request: HttpRequest,
) -> Result<Json<ActorAnswer>, Problem> {
    let which: Which = query(&request)?;
    // Every process lists every actor.
    let own = registry.report_of(&name);
    let own = own.ok_or_else(|| unknown_actor(&name))?;
    Ok(Json(match which.scope {
        Scope::Process => ActorAnswer::Process(own),
        Scope::Cluster => ActorAnswer::Cluster(reports.deployment(Some(&name))),
    }))
}

/// Pauses an actor.
///
/// Its messages stay queued, no tick starts, and what runs ends. Requests that need it get 503; without the publisher,
/// likes go to the database. A restart of the process resumes it.
#[utoipa::path(
    post,
    path = "/admin/actors/{name}/pause",
    tag = "admin",
    operation_id = "pause_actor",
    params(
        ("name" = String, Path, description = "The actor's name", example = "retry_scheduler"),
        Where,
        OperatorHeader
    ),
    responses((status = 200, body = ActorReport), (status = 400), (status = 404), (status = 409))
)]
pub(super) async fn pause(
    operations: Data<ActorOperations>,
    name: Path<String>,
    operator: Operator,
    request: HttpRequest,
) -> Result<Json<Value>, Problem> {
    operate(&operations, &request, &name, ActorAction::Pause, &operator).await
}

/// Resumes a paused actor.
#[utoipa::path(
    post,
    path = "/admin/actors/{name}/resume",
    tag = "admin",
    operation_id = "resume_actor",
    params(
        ("name" = String, Path, description = "The actor's name", example = "retry_scheduler"),
        Where,
        OperatorHeader
    ),
    responses((status = 200, body = ActorReport), (status = 400), (status = 404), (status = 409))
)]
pub(super) async fn resume(
    operations: Data<ActorOperations>,
    name: Path<String>,
    operator: Operator,
    request: HttpRequest,
) -> Result<Json<Value>, Problem> {
    operate(&operations, &request, &name, ActorAction::Resume, &operator).await
}

/// Restarts an actor, as after a panic: its messages stay, and its schedule begins anew.
#[utoipa::path(
    post,
    path = "/admin/actors/{name}/restart",
    tag = "admin",
    operation_id = "restart_actor",
    params(
        ("name" = String, Path, description = "The actor's name", example = "retry_scheduler"),
        Where,
        OperatorHeader
    ),
    responses((status = 200, body = ActorReport), (status = 400), (status = 404), (status = 409))
)]
pub(super) async fn restart(
    operations: Data<ActorOperations>,
    name: Path<String>,
    operator: Operator,
    request: HttpRequest,
) -> Result<Json<Value>, Problem> {
    operate(
        &operations,
        &request,
        &name,
        ActorAction::Restart,
        &operator,
    )
    .await
}

async fn operate(
    operations: &ActorOperations,
    request: &HttpRequest,
    name: &str,
    action: ActorAction,
    operator: &Operator,
) -> Result<Json<Value>, Problem> {
    let place: Where = query(request)?;
    let process = place.process.as_deref();
    match operations.operate(process, name, action, &operator.0).await {
        Ok(operated) => Ok(Json(operated.report)),
        Err(CommandFailed::UnknownActor) => Err(unknown_actor(name)),
        Err(CommandFailed::NotRunning) => Err(not_running(name)),
        Err(CommandFailed::UnknownProcess) => {
            let process = process.unwrap_or_default();
            let detail = format!(
                "no process '{process:.64}' has reported within the last hour; see /admin/actors?scope=cluster"
            );
            Err(Problem::new(Code::UnknownProcess, detail))
        }
        Err(CommandFailed::NoAnswer(reason)) => {
            let detail = format!(
                "the process did not answer, and may have carried out the command: {reason}; see \
                 /admin/actors?scope=cluster"
            );
            Err(Problem::new(Code::Unavailable, detail))
        }
    }
}

/// The problem of an actor that takes no commands.
pub(super) fn unheeded(name: &str, error: Unheeded) -> Problem {
    match error {
        Unheeded::Unknown => unknown_actor(name),
        Unheeded::NotRunning => not_running(name),
    }
}

fn unknown_actor(name: &str) -> Problem {
    let detail = format!("no actor is called '{name:.40}'; see /admin/actors");
    Problem::new(Code::UnknownActor, detail)
}

fn not_running(name: &str) -> Problem {
    let detail = format!("{name} does not run in this process; /admin/actors has the reason");
    Problem::new(Code::Conflict, detail)
}
