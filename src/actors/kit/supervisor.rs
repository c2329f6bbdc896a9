//! Keeps an actor alive through panics.
//!
//! Actix restarts a supervised actor that stops, but not one that panics: its queued messages are lost
//! and its address is dead for good. The supervisor polls the actor's context itself, catches the panic,
//! waits out a back-off and restarts it with its mailbox intact. See `docs/adr/0002-supervisor.md`.

use std::any::Any;
use std::collections::VecDeque;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::{Duration, Instant};

use actix::dev::ContextFut;
use actix::{Actor, Addr, AsyncContext, Context, Handler, Message, Supervised};
use futures_util::FutureExt;
use tokio::sync::Notify;
use tokio::time::Sleep;

use super::registry::{ActorStats, State};
use crate::domain::Backoff;
use crate::telemetry;

/// When the supervisor restarts an actor, and when it gives up.
#[derive(Debug, Clone, Copy)]
pub struct SupervisorPolicy {
    /// The wait before a restart, by how many there were within the window.
    pub backoff: Backoff,
    /// How many panics within the window it survives.
    pub max_restarts: usize,
    /// The window.
    pub window: Duration,
}

impl Default for SupervisorPolicy {
    fn default() -> Self {
        Self {
            backoff: Backoff {
                base: Duration::from_millis(10),
                cap: Duration::from_secs(1),
            },
            max_restarts: 20,
            window: Duration::from_secs(60),
        }
    }
}

/// Makes an actor panic while it handles this message. Sent only where fault injection is enabled.
#[derive(Debug)]
pub struct InjectPanic;

impl Message for InjectPanic {
    type Result = ();
}

/// Polls one actor for as long as it lives.
pub struct Supervisor<A: Supervised + Actor<Context = Context<A>>> {
    actor: Pin<Box<ContextFut<A, Context<A>>>>,
    nap: Option<Pin<Box<Sleep>>>,
    panics: VecDeque<Instant>,
    policy: SupervisorPolicy,
    stats: Arc<ActorStats>,
    given_up: Arc<Notify>,
}

impl<A: Supervised + Actor<Context = Context<A>>> Supervisor<A> {
    /// Starts an actor on this thread, under a supervisor. `given_up` is notified if it panics too
    /// often: then its address is closed, and the process should be restarted.
    pub fn start(
        policy: SupervisorPolicy,
        stats: Arc<ActorStats>,
        given_up: Arc<Notify>,
        build: impl FnOnce(&mut Context<A>) -> A,
    ) -> Addr<A>
    where
        A: Handler<InjectPanic>,
    {
        let mut context = Context::new();
        let actor = build(&mut context);
        let addr = context.address();
        let provoked = addr.clone();
        stats.set_provoke(move || provoked.do_send(InjectPanic));
        actix::spawn(Self {
            actor: Box::pin(context.into_future(actor)),
            nap: None,
            panics: VecDeque::new(),
            policy,
            stats,
            given_up,
        });
        addr
    }

    /// Takes note of a panic; answers how long to wait, or `None` to give up.
    fn judge(&mut self) -> Option<Duration> {
        let now = Instant::now();
        self.panics.push_back(now);
        while let Some(first) = self.panics.front()
            && now.duration_since(*first) > self.policy.window
        {
            self.panics.pop_front();
        }
        if self.panics.len() > self.policy.max_restarts {
            return None;
        }
        let attempts = u32::try_from(self.panics.len()).unwrap_or(u32::MAX);
        Some(self.policy.backoff.draw(attempts))
    }

    fn restart(&mut self) -> bool {
        let restarted = self.actor.restart();
        if restarted {
            self.stats.restarted();
            telemetry::ActorRestarted {
                actor: self.stats.name(),
                restarts: self.stats.restarts(),
            }
            .emit();
        } else {
            self.stats.set_state(State::Stopped);
        }
        restarted
    }
}

impl<A: Supervised + Actor<Context = Context<A>>> Future for Supervisor<A> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<()> {
        let this = &mut *self;
        loop {
            if let Some(nap) = this.nap.as_mut() {
                task::ready!(nap.as_mut().poll(context));
                this.nap = None;
                if !this.restart() {
                    return Poll::Ready(());
                }
            }
            let polled =
                std::panic::catch_unwind(AssertUnwindSafe(|| this.actor.as_mut().poll(context)));
            match polled {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(())) => {
                    if !this.restart() {
                        return Poll::Ready(());
                    }
                }
                Err(payload) => {
                    note_panic(&this.stats, payload.as_ref());
                    let Some(wait) = this.judge() else {
                        this.stats.set_state(State::Failed);
                        telemetry::ActorGivenUp {
                            actor: this.stats.name(),
                            panics: this.panics.len(),
                            window: this.policy.window,
                        }
                        .emit();
                        this.given_up.notify_one();
                        return Poll::Ready(());
                    };
                    this.stats.set_state(State::Restarting);
                    this.nap = Some(Box::pin(tokio::time::sleep(wait)));
                }
            }
        }
    }
}

/// Runs an actor's asynchronous work beside it, so that a restart of the actor does not cut it off
/// half-way, and notes a panic in it, which would otherwise be lost without a word.
pub fn spawn_work(stats: Arc<ActorStats>, work: impl Future<Output = ()> + 'static) {
    actix::spawn(async move {
        if let Err(payload) = AssertUnwindSafe(work).catch_unwind().await {
            note_panic(&stats, payload.as_ref());
        }
    });
}

fn note_panic(stats: &ActorStats, payload: &(dyn Any + Send)) {
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message");
    stats.panicked(message);
    telemetry::ActorPanicked {
        actor: stats.name(),
        message,
    }
    .emit();
}
