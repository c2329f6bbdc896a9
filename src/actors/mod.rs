//! The actors, one file each, in the order of the flow. An actor's file holds its messages' handling, its effects
//! and its failures; the crate `actor-kit` supplies mailbox, batches, schedule and supervisor on actix. Started by
//! `app/`, and called through their mailboxes by `likes/` and `admin/`.

pub mod behavior_recorder;
pub mod cache_writer;
pub mod deployment;
pub mod event_publisher;
pub mod fact_publisher;
pub mod health_monitor;
pub mod history_keeper;
pub mod idempotency_keeper;
pub mod job_runner;
pub mod nats_subscriber;
pub mod probe;
pub mod process_reports;
pub mod processes;
pub mod retry_scheduler;
pub mod sync_publisher;

mod failures;

use std::time::Duration;

use actor_kit::SupervisorPolicy;

pub use behavior_recorder::BehaviorRecorder;
pub use cache_writer::CacheWriter;
pub use event_publisher::EventPublisher;
pub use fact_publisher::FactPublisher;
pub use health_monitor::HealthMonitor;
pub use history_keeper::HistoryKeeper;
pub use idempotency_keeper::IdempotencyKeeper;
pub use job_runner::JobRunner;
pub use nats_subscriber::NatsSubscriber;
pub use retry_scheduler::RetryScheduler;
pub use sync_publisher::SyncPublisher;

use crate::domain::Backoff;

/// When a panicked actor is restarted.
pub const RESTARTS: SupervisorPolicy = SupervisorPolicy {
    wait: |panics| {
        const WAIT: Backoff = Backoff {
            base: Duration::from_millis(10),
            cap: Duration::from_secs(1),
        };
        WAIT.draw(panics)
    },
    max_restarts: 20,
    window: Duration::from_secs(60),
};
