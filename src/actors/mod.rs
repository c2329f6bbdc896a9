//! The actors, one file each, in the order of the flow. Handlers are thin: they gather messages into
//! batches, call plain code and send the result on.

pub mod behavior_recorder;
pub mod cache_writer;
pub mod event_publisher;
pub mod health_monitor;
pub mod idempotency_keeper;
pub mod job_runner;
pub mod kit;
pub mod nats_subscriber;
pub mod retry_scheduler;
pub mod sync_publisher;

mod failures;

pub use behavior_recorder::BehaviorRecorder;
pub use cache_writer::CacheWriter;
pub use event_publisher::EventPublisher;
pub use health_monitor::HealthMonitor;
pub use idempotency_keeper::IdempotencyKeeper;
pub use job_runner::JobRunner;
pub use nats_subscriber::NatsSubscriber;
pub use retry_scheduler::RetryScheduler;
pub use sync_publisher::SyncPublisher;
