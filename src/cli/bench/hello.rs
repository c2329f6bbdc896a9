//! The yardstick of the benchmark: a bare actix-web server that answers a like's request with a like's answer, and a
//! read with a read's answer, and does nothing else.

use std::io::{self, Write};

use actix_web::web::{self, Json};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use serde::Serialize;

#[derive(Serialize)]
struct Answer {
    event_id: &'static str,
    resource_type: &'static str,
    resource_id: i64,
    user_id: i64,
    liked: bool,
    changed: bool,
    like_count: i64,
    durability: &'static str,
    cached: bool,
}

#[derive(Serialize)]
struct Read {
    resource_type: &'static str,
    resource_id: i64,
    user_id: i64,
    liked: bool,
    like_count: i64,
}

fn user_in(request: &HttpRequest) -> Option<i64> {
    let user_id = request.headers().get("X-User-Id")?;
    user_id.to_str().ok()?.parse().ok()
}

async fn like(video_id: web::Path<i64>, request: HttpRequest) -> HttpResponse {
    let Some(user_id) = user_in(&request) else {
        return HttpResponse::BadRequest().finish();
    };
    HttpResponse::Ok().json(Json(Answer {
        event_id: "0199d3a1-5c2e-7b44-9f0e-8a6d21c7e593",
        resource_type: "video",
        resource_id: *video_id,
        user_id,
        liked: true,
        changed: true,
        like_count: 10,
        durability: "database",
        cached: true,
    }))
}

async fn read(video_id: web::Path<i64>, request: HttpRequest) -> HttpResponse {
    let Some(user_id) = user_in(&request) else {
        return HttpResponse::BadRequest().finish();
    };
    HttpResponse::Ok().json(Json(Read {
        resource_type: "video",
        resource_id: *video_id,
        user_id,
        liked: true,
        like_count: 10,
    }))
}

/// Serves on a free port of loopback until it is killed, with as many workers as Likewise.
pub(super) async fn serve() -> io::Result<()> {
    let server = HttpServer::new(|| {
        App::new().service(
            web::resource("/v1/videos/{video_id}/like")
                .route(web::put().to(like))
                .route(web::get().to(read)),
        )
    })
    .workers(std::thread::available_parallelism().map_or(2, usize::from))
    .bind(("127.0.0.1", 0))?;
    for address in server.addrs() {
        writeln!(io::stderr(), "listening on http://{address}")?;
    }
    server.run().await
}
