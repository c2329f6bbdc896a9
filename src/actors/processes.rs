//! Tells the other processes on the same database what this one is set up with, and warns of differences: a process
//! without the Redis or the NATS of the others works, but misses their changes, and one with fewer resource types leaves
//! events to them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::config::Settings;
use crate::domain::ResourceType;
use crate::store::{ProcessRecord, Store, process_name};
use crate::telemetry::{ProcessesAgree, ProcessesDiffer};

/// The interval between two heartbeats.
const INTERVAL: Duration = Duration::from_secs(5);

/// The interval between two looks for a new erasure.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How this process differs from others.
#[derive(Debug, Clone, Default)]
pub struct Differences(Arc<Mutex<Vec<String>>>);

impl Differences {
    /// The warnings now.
    #[must_use]
    pub fn current(&self) -> Vec<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set(&self, warnings: Vec<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = warnings;
    }
}

/// What this process is set up with.
#[must_use]
pub fn own(settings: &Settings) -> ProcessRecord {
    ProcessRecord {
        id: Uuid::now_v7().to_string(),
        host: process_name(),
        role: settings.role.as_str().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        cache: match &settings.redis {
            Some(redis) if redis.is_cluster() => "Redis Cluster".to_owned(),
            Some(_) => "Redis".to_owned(),
            None => "none".to_owned(),
        },
        broker: match &settings.nats {
            Some(nats) => format!("NATS stream {}", nats.stream),
            None => "none".to_owned(),
        },
        facts: match settings.facts.receivers().join(", ") {
            none if none.is_empty() => "none".to_owned(),
            receivers => receivers,
        },
        resource_types: {
            let types: BTreeSet<_> = settings.store.resource_types.iter().collect();
            let words: Vec<_> = types.into_iter().map(ResourceType::as_str).collect();
            words.join(", ")
        },
    }
}

/// The heartbeats of this process, and its looks at those of others.
pub struct Heartbeats {
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Heartbeats {
    /// Sends heartbeats until [`end`](Self::end). A database that cannot be reached is reported elsewhere.
    #[must_use]
    pub fn begin(store: Arc<Store>, own: ProcessRecord, differences: Differences) -> Self {
        let (end, ended) = oneshot::channel();
        let task = actix::spawn(watch(store, own, differences, ended));
        Self { end, task }
    }

    /// Says that the process ends, after the last heartbeat. One that cannot say so is forgotten when its heartbeats end.
    pub async fn end(self) {
        let _ = self.end.send(());
        let _ = self.task.await;
    }
}

async fn watch(
    store: Arc<Store>,
    own: ProcessRecord,
    differences: Differences,
    mut ended: oneshot::Receiver<()>,
) {
    loop {
        if let Ok(others) = store.note_process(&own).await {
            let warnings = compare(&own, &others);
            let before = differences.current();
            for warning in warnings.iter().filter(|warning| !before.contains(warning)) {
                ProcessesDiffer { warning }.emit();
            }
            if warnings.is_empty() && !before.is_empty() {
                ProcessesAgree.emit();
            }
            differences.set(warnings);
        }
        // An erasure waits until every process knows it.
        let (noted, epoch) = (Instant::now(), store.erasures().epoch());
        while noted.elapsed() < INTERVAL && store.erasures().epoch() == epoch {
            tokio::select! {
                _ = &mut ended => {
                    let _ = store.forget_process(&own.id).await;
                    return;
                }
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }
}

/// One warning for each process that is set up with another cache or broker, other receivers, or other resource types.
fn compare(own: &ProcessRecord, others: &[ProcessRecord]) -> Vec<String> {
    let mut warnings = Vec::new();
    for other in others {
        let who = format!(
            "{} (role {}, version {})",
            other.host, other.role, other.version
        );
        if other.cache != own.cache {
            warnings.push(format!(
                "another process on this database has a different Redis: here {}, there {}: {who}; each misses what the \
                 other caches, so set the same LIKEWISE_REDIS_URL for both",
                own.cache, other.cache
            ));
        }
        if other.broker != own.broker {
            warnings.push(format!(
                "another process on this database has a different NATS: here {}, there {}: {who}; events of one do not \
                 reach the other, so set the same LIKEWISE_NATS_URL for both",
                own.broker, other.broker
            ));
        }
        if other.facts != own.facts {
            warnings.push(format!(
                "another process on this database has different receivers of facts: here {}, there {}: {who}; each stores \
                 facts for its own receivers only, so set the same LIKEWISE_FACTS_STREAM and LIKEWISE_WEBHOOK_URLS for both",
                own.facts, other.facts
            ));
        }
        if other.resource_types != own.resource_types {
            warnings.push(format!(
                "another process on this database serves other resource types: here {}, there {}: {who}; events of a type \
                 wait for a worker that serves it, so set the same LIKEWISE_RESOURCE_TYPES for both",
                own.resource_types, other.resource_types
            ));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_dependencies_are_one_warning_each() {
        let process = |cache: &str, broker: &str, facts: &str, types: &str| ProcessRecord {
            id: "1".to_owned(),
            host: "b process 7".to_owned(),
            role: "worker".to_owned(),
            version: "1.2.3".to_owned(),
            cache: cache.to_owned(),
            broker: broker.to_owned(),
            facts: facts.to_owned(),
            resource_types: types.to_owned(),
        };
        let own = process("Redis", "NATS stream LIKEWISE", "stream", "post, video");
        assert_eq!(
            compare(&own, std::slice::from_ref(&own)),
            Vec::<String>::new()
        );
        let other = process("none", "none", "none", "video");
        let warnings = compare(&own, &[own.clone(), other]);
        let [cache, broker, facts, types] = warnings.as_slice() else {
            panic!("{warnings:?}");
        };
        for said in [
            "here Redis, there none",
            "b process 7",
            "role worker",
            "LIKEWISE_REDIS_URL",
        ] {
            assert!(cache.contains(said), "{cache}");
        }
        for said in ["here NATS stream LIKEWISE, there none", "LIKEWISE_NATS_URL"] {
            assert!(broker.contains(said), "{broker}");
        }
        for said in ["here stream, there none", "LIKEWISE_WEBHOOK_URLS"] {
            assert!(facts.contains(said), "{facts}");
        }
        for said in ["here post, video, there video", "LIKEWISE_RESOURCE_TYPES"] {
            assert!(types.contains(said), "{types}");
        }
    }
}
