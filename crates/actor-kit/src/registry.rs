//! Every actor of a process: their reports, and what operators can do to them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use chrono::Utc;

use crate::observer::Observer;
use crate::report::{ActorReport, ActorState, Snapshot, StuckAfter};
use crate::stats::{ActorStats, Command, read, write};

/// Every actor of this process, in the order of their start.
#[derive(Clone)]
pub struct Registry {
    actors: Arc<RwLock<Vec<Arc<ActorStats>>>>,
    stuck_after: StuckAfter,
    observer: Arc<dyn Observer>,
    started: Instant,
    snapshots: Arc<AtomicU64>,
}

/// Why an operator's command has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unheeded {
    /// No actor has this name.
    #[error("no actor has this name")]
    Unknown,
    /// The actor does not run in this process.
    #[error("the actor does not run in this process")]
    NotRunning,
}

impl Registry {
    /// Returns an empty registry, whose reports call an actor stuck after these times.
    #[must_use]
    pub fn new(stuck_after: StuckAfter, observer: impl Observer) -> Self {
        Self {
            actors: Arc::default(),
            stuck_after,
            observer: Arc::new(observer),
            started: Instant::now(),
            snapshots: Arc::default(),
        }
    }

    pub(crate) fn register(&self, name: &'static str, limit: (usize, Duration)) -> Arc<ActorStats> {
        let observer = Arc::clone(&self.observer);
        let stats = Arc::new(ActorStats::new(name, limit, observer));
        write(&self.actors).push(Arc::clone(&stats));
        stats
    }

    /// Lists an actor that this process does not run, with the reason.
    pub fn disabled(&self, name: &'static str, reason: &str) {
        self.register(name, (0, Duration::ZERO)).disable(reason);
    }

    /// Returns the report of each actor, with what a reader needs to compute rates.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            sequence: self.snapshots.fetch_add(1, Ordering::Relaxed) + 1,
            captured_at: Utc::now(),
            uptime_seconds: self.started.elapsed().as_secs_f64(),
            actors: self.report(),
        }
    }

    /// Returns the report of each actor.
    #[must_use]
    pub fn report(&self) -> Vec<ActorReport> {
        let actors = read(&self.actors);
        actors
            .iter()
            .map(|stats| stats.report(self.stuck_after))
            .collect()
    }

    /// Returns the report of the actor of this name.
    #[must_use]
    pub fn report_of(&self, name: &str) -> Option<ActorReport> {
        Some(self.find(name)?.report(self.stuck_after))
    }

    /// Returns the times after which reports call an actor stuck.
    #[must_use]
    pub const fn stuck_after(&self) -> StuckAfter {
        self.stuck_after
    }

    /// Returns the name and the state of each actor that this process runs, where one is stuck after these times.
    #[must_use]
    pub fn states(&self, stuck_after: StuckAfter) -> Vec<(&'static str, ActorState)> {
        let actors = read(&self.actors);
        let states = actors
            .iter()
            .map(|stats| (stats.name, stats.state(stuck_after).0));
        states
            .filter(|(_, state)| *state != ActorState::Disabled)
            .collect()
    }

    /// Pauses the actor of this name: its messages stay queued, senders that do not wait for room are refused, no ticks
    /// start, and what runs ends. Returns whether it ran before.
    ///
    /// # Errors
    /// If the actor does not run here.
    pub fn pause(&self, name: &str, reason: String) -> Result<bool, Unheeded> {
        let stats = self.running(name)?;
        Ok(stats.set_pause(Some(reason)))
    }

    /// Resumes the actor of this name. Returns whether it was paused.
    ///
    /// # Errors
    /// If the actor does not run here.
    pub fn resume(&self, name: &str) -> Result<bool, Unheeded> {
        let stats = self.running(name)?;
        let resumed = stats.set_pause(None);
        stats.command(Command::Resume);
        Ok(resumed)
    }

    /// Restarts the actor of this name, as after a panic: its messages stay, and its schedule begins anew.
    ///
    /// # Errors
    /// If the actor does not run here.
    pub fn restart(&self, name: &str) -> Result<(), Unheeded> {
        self.running(name)?.command(Command::Restart);
        Ok(())
    }

    /// Makes the actor of this name panic, to show that it survives.
    ///
    /// # Errors
    /// If the actor does not run here.
    pub fn inject_panic(&self, name: &str) -> Result<(), Unheeded> {
        self.running(name)?.command(Command::InjectPanic);
        Ok(())
    }

    /// Makes the actor of this name block its thread, to show that it is noticed.
    ///
    /// # Errors
    /// If the actor does not run here.
    pub fn inject_block(&self, name: &str, length: Duration) -> Result<(), Unheeded> {
        self.running(name)?.command(Command::InjectBlock(length));
        Ok(())
    }

    fn find(&self, name: &str) -> Option<Arc<ActorStats>> {
        let actors = read(&self.actors);
        actors.iter().find(|stats| stats.name == name).cloned()
    }

    fn running(&self, name: &str) -> Result<Arc<ActorStats>, Unheeded> {
        let stats = self.find(name).ok_or(Unheeded::Unknown)?;
        let (state, ..) = stats.state(self.stuck_after);
        match state {
            ActorState::Disabled | ActorState::Failed | ActorState::Stopped => {
                Err(Unheeded::NotRunning)
            }
            _ => Ok(stats),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::sync::Notify;

    use super::*;
    use crate::testing::{starter, until};
    use crate::{
        Actor, BatchActor, BatchLimits, Context, Envelope, Mailbox, MessageReport, Request,
        Schedule, Starter,
    };

    /// Is answered when the gate opens. Odd numbers are failures.
    struct Work(u32);

    impl Request for Work {
        type Reply = u32;

        fn is_failure(answer: &u32) -> bool {
            answer % 2 == 1
        }
    }

    struct Gated {
        gate: Arc<Notify>,
        ticks: AtomicUsize,
    }

    impl Actor for Gated {
        const NAME: &'static str = "gated";

        fn schedule(&self) -> Option<Schedule> {
            Some(Schedule {
                every: Duration::from_millis(1),
                at_once: true,
            })
        }

        async fn tick(self: Arc<Self>) {
            self.ticks.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl BatchActor<Work> for Gated {
        type Item = Envelope<Work>;

        fn limits(&self) -> BatchLimits {
            BatchLimits {
                largest: 2,
                lanes: 1,
                spare_lanes: 0,
            }
        }

        async fn run(self: Arc<Self>, batch: Vec<Envelope<Work>>) {
            self.gate.notified().await;
            for envelope in batch {
                let Work(number) = envelope.body;
                assert!(number != 13, "thirteen");
                envelope.reply.send(number);
            }
        }
    }

    /// Asks the gated actor, in its own work.
    struct Asking(Mailbox<Gated>);

    impl Actor for Asking {
        const NAME: &'static str = "asking";

        fn schedule(&self) -> Option<Schedule> {
            Some(Schedule {
                every: Duration::from_secs(3_600),
                at_once: true,
            })
        }

        async fn tick(self: Arc<Self>) {
            if let Ok(answer) = self.0.ask(Work(2)) {
                let _ = answer.await;
            }
        }
    }

    fn gated(starter: &Starter) -> (Mailbox<Gated>, Arc<Notify>) {
        let gate = Arc::<Notify>::default();
        let mailbox = starter.start(|_: Context<Gated>| Gated {
            gate: Arc::clone(&gate),
            ticks: AtomicUsize::new(0),
        });
        (mailbox, gate)
    }

    fn report(starter: &Starter, name: &str) -> ActorReport {
        starter.registry.report_of(name).expect("an actor")
    }

    #[actix::test]
    async fn messages_are_counted_by_type_and_outcome() {
        let starter = starter(100);
        let (mailbox, gate) = gated(&starter);
        let answers: Vec<_> = [2, 4, 5, 13]
            .map(|n| mailbox.ask(Work(n)).expect("room"))
            .into();
        let messages = || report(&starter, "gated").messages;
        let has_begun = |work: &MessageReport| work.received == 4 && work.running.batches == 1;
        until(|| messages().first().is_some_and(has_begun)).await;
        let work = &messages()[0];
        assert_eq!((work.name, work.waiting), ("Work", 2));
        assert_eq!((work.batches, work.running.messages), (1, 2));
        for answer in answers {
            gate.notify_one();
            let _ = answer.await;
        }
        until(|| messages()[0].running.batches == 0).await;
        let work = &messages()[0];
        assert_eq!((work.done, work.failed, work.waiting), (2, 2, 0));
        assert!((work.batch_size.max - 2.0).abs() < f64::EPSILON, "{work:?}");
        assert!(work.latency_ms.p99 > 0.0);
        assert_eq!(work.latency_counts.iter().sum::<u64>(), 4);
        assert!(work.latency_sum > Duration::ZERO);
    }

    #[actix::test]
    async fn waits_show_who_waits_for_whom() {
        let starter = starter(100);
        let (mailbox, gate) = gated(&starter);
        let _asking = starter.start(|_| Asking(mailbox.clone()));
        let waits = || report(&starter, "asking").waits_for;
        until(|| waits().first().is_some_and(|wait| wait.actor == "gated")).await;
        assert_eq!(waits()[0].messages, 1);
        assert!(report(&starter, "asking").tick_ms.is_some());
        gate.notify_one();
        until(|| waits().is_empty()).await;
        assert_eq!(report(&starter, "asking").tick_ms, None);
        // Outside the work of an actor nobody waits.
        let answer = mailbox.ask(Work(2)).expect("room");
        assert!(report(&starter, "gated").waits_for.is_empty());
        gate.notify_one();
        assert_eq!(answer.await, Ok(2));
    }

    #[actix::test]
    async fn paused_actor_keeps_its_messages_until_it_resumes() {
        let starter = starter(100);
        let (mailbox, gate) = gated(&starter);
        let registry = &starter.registry;
        assert_eq!(registry.pause("gated", "by ada".into()), Ok(true));
        assert_eq!(registry.pause("gated", "by bob".into()), Ok(false));
        gate.notify_one();
        let refused = mailbox.ask(Work(2)).err();
        assert_eq!(refused, Some(crate::Refused::Paused("gated")));
        let answer = mailbox.ask_or_wait(Work(2)).await.expect("room");
        until(|| report(&starter, "gated").mailbox.depth == 1).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        let paused = report(&starter, "gated");
        assert_eq!(paused.state, ActorState::Paused);
        assert_eq!(paused.reason.as_deref(), Some("by ada"));
        assert_eq!(paused.messages.first().map_or(0, |work| work.batches), 0);
        // A restart does not resume it.
        assert_eq!(registry.restart("gated"), Ok(()));
        until(|| report(&starter, "gated").restarts == 1).await;
        assert_eq!(report(&starter, "gated").state, ActorState::Paused);
        assert_eq!(registry.resume("gated"), Ok(true));
        assert_eq!(answer.await, Ok(2));
        assert_eq!(report(&starter, "gated").state, ActorState::Running);
        assert_eq!(registry.resume("gated"), Ok(false));
    }

    #[actix::test]
    async fn restarted_actor_keeps_its_messages() {
        let starter = starter(100);
        let (mailbox, gate) = gated(&starter);
        let answers: Vec<_> = [2, 4, 6]
            .map(|n| mailbox.ask(Work(n)).expect("room"))
            .into();
        assert_eq!(starter.registry.restart("gated"), Ok(()));
        until(|| report(&starter, "gated").restarts == 1).await;
        for answer in answers {
            gate.notify_one();
            assert!(answer.await.is_ok());
        }
        assert_eq!(report(&starter, "gated").panics, 0);
    }

    #[actix::test]
    async fn last_panic_is_reported_with_its_place() {
        let starter = starter(100);
        let (mailbox, gate) = gated(&starter);
        gate.notify_one();
        assert!(mailbox.ask(Work(13)).expect("room").await.is_err());
        until(|| report(&starter, "gated").panics == 1).await;
        let last = report(&starter, "gated").supervision.last_panic;
        let last = last.expect("a panic");
        assert_eq!(last.message, "thirteen");
        assert!(
            last.place
                .as_deref()
                .unwrap_or_default()
                .contains("registry.rs"),
            "{last:?}"
        );
    }

    #[test]
    fn actor_that_blocks_its_thread_is_stuck() {
        const BLOCK: Duration = Duration::from_millis(2_500);
        let (sender, receiver) = std::sync::mpsc::channel();
        let (seen, was_seen) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            actix::System::new().block_on(async move {
                let starter = starter(100);
                let (mailbox, gate) = gated(&starter);
                until(|| report(&starter, "gated").state == ActorState::Running).await;
                sender.send(starter.registry.clone()).expect("a receiver");
                was_seen.await.expect("a sender");
                // Handled after the block.
                gate.notify_one();
                let answer = mailbox.ask(Work(2)).expect("room");
                assert_eq!(answer.await, Ok(2));
            });
        });
        let registry: Registry = receiver.recv().expect("a registry");
        let now = || registry.report_of("gated").expect("an actor");
        let started = Instant::now();
        let mut blocked: Option<Instant> = None;
        let stuck = loop {
            // A busy machine may miss a block.
            if blocked.is_none_or(|blocked| blocked.elapsed() > 2 * BLOCK) {
                assert_eq!(registry.inject_block("gated", BLOCK), Ok(()));
                blocked = Some(Instant::now());
            }
            let report = now();
            // A caller with a longer limit does not call it stuck.
            let patient = registry.states(StuckAfter {
                blocked_thread: Duration::from_secs(60),
                ..registry.stuck_after()
            });
            assert_eq!(patient, [("gated", ActorState::Running)]);
            if report.state == ActorState::Stuck {
                break report;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "{report:?}");
            std::thread::sleep(Duration::from_millis(5));
        };
        let reason = stuck.reason.unwrap_or_default();
        assert!(reason.starts_with("it blocks its thread"), "{reason}");
        seen.send(()).expect("a receiver");
        thread.join().expect("no panic");
        assert_ne!(now().state, ActorState::Stuck);
    }

    #[actix::test]
    async fn disabled_actor_is_listed_and_takes_no_commands() {
        let starter = starter(100);
        starter.registry.disabled("publisher", "there is no broker");
        let disabled = report(&starter, "publisher");
        assert_eq!(disabled.state, ActorState::Disabled);
        assert_eq!(disabled.reason.as_deref(), Some("there is no broker"));
        let refused = starter.registry.restart("publisher");
        assert_eq!(refused, Err(Unheeded::NotRunning));
        let refused = starter.registry.restart("nobody");
        assert_eq!(refused, Err(Unheeded::Unknown));
        let states = starter.registry.states(starter.registry.stuck_after());
        assert!(states.is_empty(), "{states:?}");
    }
}
