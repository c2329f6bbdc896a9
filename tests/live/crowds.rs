//! A thousand watchers on one process.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::videos;
use crate::support::service::{Service, Setup};
use crate::support::{PATIENCE, say, wait};

const WATCHERS: usize = 1_000;
const VIDEOS: i64 = 50;
const USERS: i64 = 100;

/// The CPU time that a process has used.
fn cpu(service: &Service) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", service.id())).expect("a process");
    let (_, rest) = stat.rsplit_once(')').expect("a name");
    let fields: Vec<_> = rest.split_whitespace().collect();
    let ticks = |place: usize| fields[place].parse::<u64>().expect("a number");
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

/// Watches until the count of its video is the final one. Returns the bytes it read.
async fn follow(mut stream: TcpStream, video: i64) -> usize {
    let last = format!("\"resource_id\":{video},\"like_count\":{USERS},");
    let (mut text, mut bytes) = (String::new(), 0);
    let mut buffer = vec![0; 4096];
    loop {
        let read = timeout(PATIENCE, stream.read(&mut buffer)).await;
        let read = read.expect("in time").expect("bytes");
        assert_ne!(read, 0, "the stream of video {video} ended: {text}");
        bytes += read;
        text += &String::from_utf8_lossy(&buffer[..read]);
        if text.contains(&last) {
            return bytes;
        }
        // The last line may be cut off.
        let from = text.len().saturating_sub(last.len() + 8);
        let from = (from..text.len()).find(|at| text.is_char_boundary(*at));
        text = text.split_off(from.unwrap_or_default());
    }
}

#[test]
fn thousand_watchers_see_the_final_counts() {
    let service = Setup::new()
        .set("LIKEWISE_LIVE_CONNECTIONS", WATCHERS)
        .start();
    let idle = service.memory_kib();
    let address = service.address();
    wait(async {
        let began = Instant::now();
        let mut streams = Vec::new();
        for watcher in 0..WATCHERS {
            // Half of them watch one video, and half watch ten.
            let video = 1 + watcher as i64 % VIDEOS;
            let path = match watcher % 2 {
                0 => format!("/v1/videos/{video}/likes/live"),
                _ => videos((0..10).map(|next| 1 + (video - 1 + next) % VIDEOS)),
            };
            let mut stream = TcpStream::connect(address).await.expect("it listens");
            let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            stream
                .write_all(request.as_bytes())
                .await
                .expect("it is sent");
            streams.push((stream, video));
        }
        for (stream, _) in &mut streams {
            let mut head = [0; 12];
            timeout(PATIENCE, stream.read_exact(&mut head))
                .await
                .expect("in time")
                .expect("a head");
            assert_eq!(&head, b"HTTP/1.1 200");
        }
        let (opened, memory) = (began.elapsed(), service.memory_kib());
        let (used, began) = (cpu(&service), Instant::now());
        let following: Vec<_> = streams
            .into_iter()
            .map(|(stream, video)| tokio::spawn(follow(stream, video)))
            .collect();
        let client = service.client();
        let likes = tokio::task::spawn_blocking(move || {
            for user in 1..=USERS {
                let behavior = |video| json!({"user_id": user, "resource_type": "video", "resource_id": video, "behavior": "like"});
                let behaviors: Vec<_> = (1..=VIDEOS).map(behavior).collect();
                client
                    .post("/v1/likes", json!({"behaviors": behaviors}))
                    .ok();
            }
        });
        likes.await.expect("all are accepted");
        let mut bytes = 0;
        for one in following {
            bytes += one.await.expect("it sees the final count");
        }
        let (took, used) = (began.elapsed(), cpu(&service) - used);
        say(format_args!(
            "{WATCHERS} watchers: opened in {opened:?}, {} KiB of memory each; {} likes in {took:?} with {used:?} of CPU, \
             {} bytes to each watcher",
            (memory - idle) / WATCHERS as u64,
            USERS * VIDEOS,
            bytes / WATCHERS
        ));
    });
    service.stop();
}
