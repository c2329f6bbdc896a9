//! Work that outlives its request: a client may disconnect, or the time of its request may run out, while a like is between
//! the cache and the database.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::thread;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

/// Work that runs in the task that awaits it. If it is dropped before it ends, a task of its own runs the rest. A task for
/// every like would schedule and wake each of them once more.
///
/// The result is that of the work, or its panic.
pub(super) struct Uncancelled<T: 'static>(Option<LocalBoxFuture<'static, thread::Result<T>>>);

impl<T: 'static> Uncancelled<T> {
    pub(super) fn new(work: impl Future<Output = T> + 'static) -> Self {
        Self(Some(AssertUnwindSafe(work).catch_unwind().boxed_local()))
    }
}

impl<T: 'static> Future for Uncancelled<T> {
    type Output = thread::Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(work) = &mut self.0 else {
            // It has ended before.
            return Poll::Pending;
        };
        let result = ready!(work.as_mut().poll(context));
        self.0 = None;
        Poll::Ready(result)
    }
}

impl<T: 'static> Drop for Uncancelled<T> {
    fn drop(&mut self) {
        if let Some(rest) = self.0.take() {
            actix::spawn(rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[actix::test]
    async fn dropped_work_runs_to_its_end() {
        let (go_on, may_go_on) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let mut work = Uncancelled::new(async move {
            let step = may_go_on.await;
            let _ = end.send(step);
        });
        assert!((&mut work).now_or_never().is_none());
        drop(work);
        assert_eq!(go_on.send(7), Ok(()));
        assert_eq!(ended.await, Ok(Ok(7)));
    }

    #[actix::test]
    async fn panic_of_the_work_is_its_result() {
        let work = Uncancelled::<()>::new(async { panic!("planted") });
        assert!(work.await.is_err());
    }
}
