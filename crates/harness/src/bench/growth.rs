//! Growth: fills the database with rows by SQL, and measures the bytes of a like in each table and of a pair and a resource
//! in Redis. The runner calls it for `--rows`.

use std::io::{self, Write};
use std::time::Duration;

use bytes::Bytes;
use comfy_table::{CellAlignment, Table, presets};
use hyper::Method;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::Place;
use super::failure::BenchError;
use super::measure::{measure, measure_answers};
use super::servers::Server;
use super::service::Service;
use crate::interaction::Interaction;
use crate::request::Request;
use crate::servers::Kind;

const LIKES_A_SECOND: f64 = 1_000.0;
const SECONDS_A_YEAR: f64 = 31_536_000.0;
const TERABYTE: f64 = 1e12;
/// Time for entries of the cache to become quiet after the commit.
const SETTLING: Duration = Duration::from_secs(2);

/// The users, and the videos that each of them likes, to measure the bytes of a pair in Redis.
const USERS: i64 = 200;
const VIDEOS: i64 = 100;
/// The first id of these users and videos. Nothing else of a benchmark has such ids.
const FIRST: i64 = 8_000_000_001;
/// The resources whose counts are read, to measure the bytes of a resource.
const COUNTED: i64 = 20_000;

/// The tables with a row for each like.
const TABLES_OF_LIKES: [&str; 3] = ["user_behaviors", "sync_events", "video_likes"];

/// What likes need on disk and in Redis.
#[derive(Serialize)]
pub(super) struct Growth {
    tables: Vec<TableSize>,
    /// In all tables with a row for each like, with their indexes.
    bytes_a_like: f64,
    /// A year at 1,000 likes a second, all kept, in terabytes.
    terabytes_a_year: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    redis: Option<RedisSize>,
}

/// The size of a table, as the database reports it.
#[derive(Serialize, Deserialize)]
struct TableSize {
    table: String,
    rows: u64,
    bytes: u64,
    index_bytes: u64,
}

#[derive(Serialize)]
struct RedisSize {
    bytes_a_liked_pair: f64,
    bytes_a_counted_resource: f64,
}

/// Stores likes by SQL, of which the last `hot` are of the hot video.
pub(super) async fn fill(
    service: &Service,
    place: &Place,
    rows: u64,
    hot: u64,
) -> Result<(), BenchError> {
    let (rows, hot) = (rows.to_string(), hot.to_string());
    let arguments = [
        "bench",
        "--tool",
        "fill",
        "--rows",
        &rows,
        "--hot-likes",
        &hot,
    ];
    service.tool(&place.own, &arguments).await.map(drop)
}

/// Measures the sizes after all other measurements.
pub(super) async fn measure_sizes(
    service: &mut Service,
    place: &Place,
    concurrency: u16,
) -> Result<Growth, BenchError> {
    let printed = service
        .tool(&place.own, &["bench", "--tool", "sizes"])
        .await?;
    let tables: Vec<TableSize> =
        serde_json::from_str(&printed).map_err(|error| BenchError::Tool {
            tool: "bench --tool sizes".to_owned(),
            log: format!("{error}: {printed}"),
        })?;
    let of_likes = tables
        .iter()
        .filter(|size| TABLES_OF_LIKES.contains(&&*size.table));
    let bytes_a_like = of_likes.map(TableSize::bytes_a_row).sum::<f64>();
    let redis = match service.server(Kind::Redis) {
        Some(_) => Some(measure_redis(service, place, concurrency).await?),
        None => None,
    };
    Ok(Growth {
        tables,
        bytes_a_like,
        terabytes_a_year: bytes_a_like * LIKES_A_SECOND * SECONDS_A_YEAR / TERABYTE,
        redis,
    })
}

/// Measures the memory of pairs that were just liked, and of counts that were just read.
async fn measure_redis(
    service: &mut Service,
    place: &Place,
    concurrency: u16,
) -> Result<RedisSize, BenchError> {
    service.restart_cold(place).await?;
    let target = service.target.clone();
    let like = |number: i64| Interaction {
        user_id: FIRST + number / VIDEOS,
        video_id: FIRST + number % VIDEOS,
    };
    let count = |video: i64| {
        let path = format!("/v1/videos/{video}/likes/count");
        Request::to(&target, Method::GET, &path, 1, Bytes::new())
    };
    // Scripts and connections are not counted.
    measure(service, concurrency, [Request::like(&target, like(-1))]).await?;
    measure_answers(service, concurrency, [count(FIRST - 1)]).await?;
    let empty = used(service).await?;
    let likes = (0..USERS * VIDEOS).map(|number| Request::like(&target, like(number)));
    measure(service, concurrency, likes).await?;
    let liked = used(service).await?;
    measure_answers(service, concurrency, (1..=COUNTED).map(count)).await?;
    let counted = used(service).await?;
    let resource = (counted - liked) / COUNTED as f64;
    let pairs = liked - empty - resource * VIDEOS as f64;
    Ok(RedisSize {
        bytes_a_liked_pair: pairs / (USERS * VIDEOS) as f64,
        bytes_a_counted_resource: resource,
    })
}

async fn used(service: &Service) -> Result<f64, BenchError> {
    sleep(SETTLING).await;
    let answer = service
        .server(Kind::Redis)
        .map(|redis: &Server| redis.redis("INFO memory"));
    let answer = answer.transpose()?.unwrap_or_default();
    let used = answer
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"));
    Ok(used
        .and_then(|bytes| bytes.trim().parse().ok())
        .unwrap_or_default())
}

impl TableSize {
    fn bytes_a_row(&self) -> f64 {
        (self.bytes + self.index_bytes) as f64 / self.rows.max(1) as f64
    }
}

impl Growth {
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let mut table = Table::new();
        table.load_preset(presets::UTF8_FULL_CONDENSED);
        table.set_header([
            "table",
            "rows",
            "MB",
            "MB of indexes",
            "bytes a row with indexes",
        ]);
        for size in &self.tables {
            table.add_row([
                size.table.clone(),
                size.rows.to_string(),
                format!("{:.1}", size.bytes as f64 / 1e6),
                format!("{:.1}", size.index_bytes as f64 / 1e6),
                format!("{:.0}", size.bytes_a_row()),
            ]);
        }
        for column in 1..=4 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        writeln!(out, "{table}")?;
        writeln!(
            out,
            "a like: {:.0} bytes in the database; a year at 1,000 likes a second: {:.1} TB",
            self.bytes_a_like, self.terabytes_a_year
        )?;
        if let Some(redis) = &self.redis {
            writeln!(
                out,
                "Redis: {:.0} bytes for each liked pair, {:.0} for each counted resource",
                redis.bytes_a_liked_pair, redis.bytes_a_counted_resource
            )?;
        }
        Ok(())
    }
}
