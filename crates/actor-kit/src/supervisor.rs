//! Starts actors and keeps them alive through panics.
//!
//! Actix restarts a supervised actor that stops, but not one that panics: its queued messages are lost and its
//! address is dead for good. The supervisor polls the actor's context itself, catches the panic, waits out a
//! back-off and restarts the actor with its mailbox intact.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use actix::AsyncContext;
use actix::dev::ContextFut;
use tokio::sync::Notify;
use tokio::time::Sleep;

use crate::actor::Actor;
use crate::host::{Context, Host, InjectBlock, InjectPanic, Restart, Resume};
use crate::mailbox::Mailbox;
use crate::panics::{message_of, remember_places};
use crate::registry::Registry;
use crate::report::ActorState;
use crate::stats::{ActorStats, Command};

/// When the supervisor restarts an actor, and when it gives up.
#[derive(Debug, Clone, Copy)]
pub struct SupervisorPolicy {
    /// Returns the wait before a restart, for the number of panics within the window.
    pub wait: fn(u32) -> Duration,
    /// The number of panics within the window that an actor survives.
    pub max_restarts: usize,
    /// The window.
    pub window: Duration,
}

/// Starts actors on this thread under supervisors, each with a mailbox, and registers them.
pub struct Starter {
    /// Gets a report of each actor.
    pub registry: Registry,
    /// When an actor is restarted.
    pub policy: SupervisorPolicy,
    /// The capacity of each mailbox, in weight.
    pub capacity: usize,
    /// Notified if an actor panics too often. Its mailbox is closed then, and the process should be restarted.
    pub given_up: Arc<Notify>,
}

impl Starter {
    /// Starts the actor that `build` returns.
    pub fn start<A: Actor>(&self, build: impl FnOnce(Context<A>) -> A) -> Mailbox<A> {
        remember_places();
        let SupervisorPolicy {
            max_restarts,
            window,
            ..
        } = self.policy;
        let stats = self.registry.register(A::NAME, (max_restarts, window));
        let actix = actix::Context::new();
        let addr = actix.address();
        let context = Context::new(Arc::clone(&stats), addr.downgrade());
        let actor = Arc::new(build(context.clone()));

        let watched = Arc::downgrade(&actor);
        stats.set_details(move || match watched.upgrade() {
            Some(actor) => actor.details(),
            None => serde_json::json!({}),
        });
        // A strong address would keep the actor alive.
        let commanded = addr.downgrade();
        stats.set_commands(move |command| {
            if let Some(addr) = commanded.upgrade() {
                match command {
                    Command::Restart => addr.do_send(Restart),
                    Command::Resume => addr.do_send(Resume),
                    Command::InjectPanic => addr.do_send(InjectPanic),
                    Command::InjectBlock(length) => addr.do_send(InjectBlock(length)),
                }
            }
        });
        let mailbox = Mailbox::new(addr, self.capacity, Arc::clone(&stats));

        actix::spawn(Supervisor {
            host: Box::pin(actix.into_future(Host::new(actor, context))),
            wait: None,
            policy: self.policy,
            stats,
            given_up: Arc::clone(&self.given_up),
        });
        mailbox
    }
}

type HostFuture<A> = ContextFut<Host<A>, actix::Context<Host<A>>>;

/// Polls one actor for as long as it lives.
struct Supervisor<A: Actor> {
    host: Pin<Box<HostFuture<A>>>,
    wait: Option<Pin<Box<Sleep>>>,
    policy: SupervisorPolicy,
    stats: Arc<ActorStats>,
    given_up: Arc<Notify>,
}

impl<A: Actor> Supervisor<A> {
    /// Returns the wait before a restart after this many panics; `None` to give up.
    fn wait_after(&self, panics: usize) -> Option<Duration> {
        let attempts = u32::try_from(panics).unwrap_or(u32::MAX);
        (panics <= self.policy.max_restarts).then(|| (self.policy.wait)(attempts))
    }

    fn restart(&mut self) -> bool {
        let restarted = self.host.restart();
        if restarted {
            self.stats.restarted();
        } else {
            self.stats.set_state(ActorState::Stopped);
        }
        restarted
    }
}

impl<A: Actor> Future for Supervisor<A> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<()> {
        let this = &mut *self;
        loop {
            if let Some(wait) = this.wait.as_mut() {
                task::ready!(wait.as_mut().poll(context));
                this.wait = None;
                if !this.restart() {
                    return Poll::Ready(());
                }
            }
            let polled = {
                let _turn = this.stats.turn();
                std::panic::catch_unwind(AssertUnwindSafe(|| this.host.as_mut().poll(context)))
            };
            match polled {
                Ok(Poll::Pending) => {
                    this.stats.started();
                    return Poll::Pending;
                }
                Ok(Poll::Ready(())) => {
                    if !this.restart() {
                        return Poll::Ready(());
                    }
                }
                Err(payload) => {
                    this.stats.panicked(message_of(payload.as_ref()));
                    let panics = this.stats.must_restart();
                    let Some(wait) = this.wait_after(panics) else {
                        this.stats.given_up(panics);
                        this.given_up.notify_one();
                        return Poll::Ready(());
                    };
                    this.stats.set_state(ActorState::Restarting);
                    this.wait = Some(Box::pin(tokio::time::sleep(wait)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::testing::{starter, until};
    use crate::{BatchActor, BatchLimits, Closed, Envelope, Request, Schedule};

    /// A message that the actor echoes, or panics over if it is odd.
    struct Echo(u32);

    impl Request for Echo {
        type Reply = u32;
    }

    /// Echoes, and counts its ticks, the first of which panics. A tick lasts until the actor stops.
    struct Echoing {
        context: Context<Self>,
        ticks: Arc<AtomicUsize>,
    }

    impl Actor for Echoing {
        const NAME: &'static str = "echoing";

        fn schedule(&self) -> Option<Schedule> {
            Some(Schedule {
                every: Duration::from_millis(2),
                at_once: true,
            })
        }

        async fn tick(self: Arc<Self>) {
            let ticks = self.ticks.fetch_add(1, Ordering::Relaxed);
            assert!(ticks > 0, "the first tick panics");
            while !self.context.is_stopping() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    impl BatchActor<Echo> for Echoing {
        type Item = Envelope<Echo>;

        fn limits(&self) -> BatchLimits {
            BatchLimits {
                largest: 1,
                lanes: 1,
                spare_lanes: 0,
            }
        }

        async fn run(self: Arc<Self>, batch: Vec<Envelope<Echo>>) {
            for envelope in batch {
                let Echo(number) = envelope.body;
                assert!(number % 2 == 0, "odd");
                envelope.reply.send(number);
            }
        }
    }

    fn start(starter: &Starter) -> (Mailbox<Echoing>, Arc<AtomicUsize>) {
        let ticks = Arc::<AtomicUsize>::default();
        let mailbox = starter.start(|context| Echoing {
            context,
            ticks: Arc::clone(&ticks),
        });
        (mailbox, ticks)
    }

    #[actix::test]
    async fn queued_messages_survive_panics() {
        let starter = starter(100);
        let (mailbox, _) = start(&starter);
        let answers: Vec<_> = (0..6)
            .map(|n| mailbox.ask(Echo(n)).expect("room"))
            .collect();
        for _ in 0..2 {
            assert_eq!(starter.registry.inject_panic(Echoing::NAME), Ok(()));
        }
        for (number, answer) in (0..).zip(answers) {
            let expected = if number % 2 == 0 {
                Ok(number)
            } else {
                Err(Closed)
            };
            assert_eq!(answer.await, expected);
        }
        let running = || starter.registry.report()[0].state == ActorState::Running;
        until(|| starter.registry.report()[0].restarts == 2 && running()).await;
        assert_eq!(mailbox.ask(Echo(8)).expect("room").await, Ok(8));
    }

    #[actix::test]
    async fn too_many_panics_give_the_actor_up() {
        let starter = starter(100);
        let (mailbox, _) = start(&starter);
        for _ in 0..3 {
            assert_eq!(starter.registry.inject_panic(Echoing::NAME), Ok(()));
        }
        starter.given_up.notified().await;
        assert_eq!(starter.registry.report()[0].state, ActorState::Failed);
        until(|| mailbox.reserve(1).is_err()).await;
    }

    #[actix::test]
    async fn one_tick_runs_at_a_time_until_the_stop() {
        let starter = starter(100);
        let (mailbox, ticks) = start(&starter);
        // A panic frees the schedule for the next tick, which lasts.
        until(|| ticks.load(Ordering::Relaxed) == 2).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(ticks.load(Ordering::Relaxed), 2);
        mailbox.stop().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(ticks.load(Ordering::Relaxed), 2, "stopped");
        let panics = starter.registry.report()[0].panics;
        assert_eq!(panics, 1, "the first tick's");
    }
}
