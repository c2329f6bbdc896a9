//! Peer (a): actix-web and diesel-async, no queue and no cache. A like is one transaction that the answer waits for:
//! `direct transaction` sends its statements, `direct function` calls a stored function, which is one round trip.

use std::sync::atomic::Ordering;

use actix_web::web::{self, Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use chrono::{DateTime, NaiveDateTime};
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error};
use diesel::sql_types::{BigInt, Datetime, Text};
use diesel_async::pooled_connection::deadpool::{Object, Pool};
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, ManagerConfig};
use diesel_async::{AsyncConnection, AsyncMysqlConnection, RunQueryDsl, SimpleAsyncConnection};
use futures_util::FutureExt;
use likewise_peers::{COMPLETED, Event, State, cores, failed, read, serve, setting, user};

/// Connections for each worker thread. Commits of many connections share a flush of the disk.
const CONNECTIONS: usize = 32;
/// How often a transaction that met a deadlock is tried.
const TRIES: usize = 20;

diesel::table! {
    user_behaviors (event_id) {
        event_id -> Text,
        user_id -> BigInt,
        resource_type -> Text,
        resource_id -> BigInt,
        behavior_type -> Text,
        version -> BigInt,
        source -> Text,
        behavior_time -> Datetime,
        created_at -> Datetime,
    }
}

diesel::table! {
    sync_events (id) {
        id -> Text,
        event_type -> Text,
        resource_type -> Text,
        resource_id -> BigInt,
        user_id -> BigInt,
        action_type -> Text,
        status -> Text,
        version -> BigInt,
        retry_count -> Integer,
        max_retries -> Integer,
        priority -> Integer,
        fencing_token -> BigInt,
        created_at -> Datetime,
        updated_at -> Datetime,
        processed_at -> Nullable<Datetime>,
    }
}

diesel::table! {
    video_likes (user_id, video_id) {
        user_id -> BigInt,
        video_id -> BigInt,
        version -> BigInt,
        created_at -> Datetime,
        deleted_at -> Nullable<Datetime>,
    }
}

diesel::table! {
    likewise_like_counts (resource_type, resource_id) {
        resource_type -> Text,
        resource_id -> BigInt,
        like_count -> BigInt,
        revision -> BigInt,
        updated_at -> Datetime,
    }
}

#[diesel::declare_sql_function]
extern "SQL" {
    /// Stores an event; returns twice the like count, and one more if the event changed it.
    fn peer_like(
        event_id: Text,
        user_id: BigInt,
        video_id: BigInt,
        action: Text,
        version: BigInt,
        at: Datetime,
    ) -> BigInt;
}

/// What `direct transaction` sends, as one function. In autocommit, the statement that calls it is a transaction.
const FUNCTION: &str = include_str!("../../../sql/peer_like.mysql.sql");

struct Database {
    pool: Pool<AsyncMysqlConnection>,
    is_function: bool,
}

impl Database {
    async fn connection(&self) -> Result<Object<AsyncMysqlConnection>, String> {
        self.pool.get().await.map_err(|error| error.to_string())
    }

    async fn store(&self, event: &Event) -> Result<State, String> {
        let mut connection = self.connection().await?;
        let session: &mut AsyncMysqlConnection = &mut connection;
        for _ in 0..TRIES {
            let stored = match self.is_function {
                true => call(session, event).await,
                false => {
                    session
                        .transaction(async |session| store(session, event).await)
                        .await
                }
            };
            match stored {
                Ok(state) => {
                    COMPLETED.fetch_add(1, Ordering::Relaxed);
                    return Ok(state);
                }
                Err(Error::DatabaseError(DatabaseErrorKind::SerializationFailure, _)) => {}
                Err(Error::DatabaseError(_, error)) if error.message().contains("Deadlock") => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Err(format!("{TRIES} deadlocks"))
    }
}

fn time(event: &Event) -> NaiveDateTime {
    DateTime::from_timestamp_micros(event.version)
        .unwrap_or_default()
        .naive_utc()
}

async fn call(connection: &mut AsyncMysqlConnection, event: &Event) -> QueryResult<State> {
    let id = event.event_id.to_string();
    let called = peer_like(
        id,
        event.user_id,
        event.video_id,
        &event.action,
        event.version,
        time(event),
    );
    let packed: i64 = diesel::select(called).get_result(connection).await?;
    Ok(State {
        liked: event.liked(),
        changed: packed % 2 == 1,
        like_count: packed / 2,
    })
}

async fn store(session: &mut AsyncMysqlConnection, event: &Event) -> QueryResult<State> {
    let (id, at) = (event.event_id.to_string(), time(event));
    {
        use user_behaviors::dsl;
        let row = (
            dsl::event_id.eq(&id),
            dsl::user_id.eq(event.user_id),
            dsl::resource_type.eq("video"),
            dsl::resource_id.eq(event.video_id),
            dsl::behavior_type.eq(&event.action),
            dsl::version.eq(event.version),
            dsl::source.eq("peer"),
            dsl::behavior_time.eq(at),
            dsl::created_at.eq(at),
        );
        diesel::insert_into(dsl::user_behaviors)
            .values(row)
            .execute(session)
            .await?;
    }
    {
        use sync_events::dsl;
        let row = (
            dsl::id.eq(&id),
            dsl::event_type.eq("video_like"),
            dsl::resource_type.eq("video"),
            dsl::resource_id.eq(event.video_id),
            dsl::user_id.eq(event.user_id),
            dsl::action_type.eq(&event.action),
            dsl::status.eq("completed"),
            dsl::version.eq(event.version),
            dsl::retry_count.eq(0),
            dsl::max_retries.eq(5),
            dsl::priority.eq(0),
            dsl::fencing_token.eq(1),
            dsl::created_at.eq(at),
            dsl::updated_at.eq(at),
            dsl::processed_at.eq(at),
        );
        diesel::insert_into(dsl::sync_events)
            .values(row)
            .execute(session)
            .await?;
    }
    let delta = project(session, event, at).await?;
    use likewise_like_counts::dsl;
    if delta != 0 {
        let row = (
            dsl::resource_type.eq("video"),
            dsl::resource_id.eq(event.video_id),
            dsl::like_count.eq(delta),
            dsl::revision.eq(1),
            dsl::updated_at.eq(at),
        );
        diesel::insert_into(dsl::likewise_like_counts)
            .values(row)
            .on_conflict(diesel::dsl::DuplicatedKeys)
            .do_update()
            .set((
                dsl::like_count.eq(dsl::like_count + delta),
                dsl::revision.eq(dsl::revision + 1),
                dsl::updated_at.eq(at),
            ))
            .execute(session)
            .await?;
    }
    let counts = dsl::likewise_like_counts.find(("video", event.video_id));
    let count = counts
        .select(dsl::like_count)
        .get_result(session)
        .await
        .optional()?;
    Ok(State {
        liked: event.liked(),
        changed: delta != 0,
        like_count: count.unwrap_or(0),
    })
}

/// Brings the pair up to the event; returns by how much the count changes.
async fn project(
    session: &mut AsyncMysqlConnection,
    event: &Event,
    at: NaiveDateTime,
) -> QueryResult<i64> {
    use video_likes::dsl;
    let pair = dsl::video_likes
        .filter(dsl::user_id.eq(event.user_id))
        .filter(dsl::video_id.eq(event.video_id))
        .filter(dsl::version.lt(event.version));
    if !event.liked() {
        let liked = pair.filter(dsl::deleted_at.is_null());
        let set = (dsl::deleted_at.eq(Some(at)), dsl::version.eq(event.version));
        let unliked = diesel::update(liked).set(set).execute(session).await?;
        return Ok(-(unliked as i64));
    }
    let row = (
        dsl::user_id.eq(event.user_id),
        dsl::video_id.eq(event.video_id),
        dsl::version.eq(event.version),
        dsl::created_at.eq(at),
    );
    let inserted = diesel::insert_or_ignore_into(dsl::video_likes).values(row);
    if inserted.execute(session).await? == 1 {
        return Ok(1);
    }
    let unliked = pair.filter(dsl::deleted_at.is_not_null());
    let set = (
        dsl::deleted_at.eq(None::<NaiveDateTime>),
        dsl::created_at.eq(at),
        dsl::version.eq(event.version),
    );
    Ok(diesel::update(unliked).set(set).execute(session).await? as i64)
}

async fn change(
    request: &HttpRequest,
    video: i64,
    liked: bool,
    database: &Database,
) -> HttpResponse {
    let Some(event) = Event::of(request, video, liked) else {
        return HttpResponse::BadRequest().finish();
    };
    match database.store(&event).await {
        Ok(state) => event.answered(&state, "database", false),
        Err(error) => failed(&error),
    }
}

async fn put(request: HttpRequest, video: Path<i64>, database: Data<Database>) -> HttpResponse {
    change(&request, *video, true, &database).await
}

async fn delete(request: HttpRequest, video: Path<i64>, database: Data<Database>) -> HttpResponse {
    change(&request, *video, false, &database).await
}

async fn get(request: HttpRequest, video: Path<i64>, database: Data<Database>) -> HttpResponse {
    let Some(user) = user(&request) else {
        return HttpResponse::BadRequest().finish();
    };
    match state(&database, user, *video).await {
        Ok(state) => read(user, *video, &state),
        Err(error) => failed(&error),
    }
}

async fn state(database: &Database, user: i64, video: i64) -> Result<State, String> {
    let mut connection = database.connection().await?;
    let text = |error: Error| error.to_string();
    let pair = video_likes::table
        .find((user, video))
        .filter(video_likes::deleted_at.is_null());
    let found: i64 = pair
        .count()
        .get_result(&mut connection)
        .await
        .map_err(text)?;
    let counts = likewise_like_counts::table.find(("video", video));
    let count = counts.select(likewise_like_counts::like_count);
    let count = count
        .get_result(&mut connection)
        .await
        .optional()
        .map_err(text)?;
    Ok(State {
        liked: found == 1,
        changed: false,
        like_count: count.unwrap_or(0),
    })
}

fn configure(config: &mut ServiceConfig) {
    config.service(
        web::resource("/v1/videos/{video_id}/like")
            .route(web::put().to(put))
            .route(web::delete().to(delete))
            .route(web::get().to(get)),
    );
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let is_function = std::env::args().nth(1).as_deref() == Some("function");
    let url = setting("DATABASE_URL");
    let mut first = AsyncMysqlConnection::establish(&url).await?;
    first.batch_execute(FUNCTION).await?;
    drop(first);
    let data = move || {
        let url = url.clone();
        async move {
            let mut config = ManagerConfig::default();
            config.custom_setup = Box::new(|url| {
                async move {
                    let mut connection = AsyncMysqlConnection::establish(url).await?;
                    // Without gap locks, two likes wait for each other only on the same video.
                    let set = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";
                    let set = connection.batch_execute(set).await;
                    set.map_err(ConnectionError::CouldntSetupConfiguration)?;
                    Ok(connection)
                }
                .boxed()
            });
            let manager = AsyncDieselConnectionManager::new_with_config(url, config);
            let pool = Pool::builder(manager).max_size(CONNECTIONS).build()?;
            Ok(Database { pool, is_function })
        }
    };
    serve(cores(), data, configure).await?;
    Ok(())
}
