//! Failures of the database: reports of them, and the bisection that isolates a bad row of a batch.

use std::ops::Range;

use actor_kit::{Actor, Context};

use crate::domain::Bisection;
use crate::store::StoreError;
use crate::telemetry::{Dependency, DependencyFailed, DependencyWorked};

/// Counts an error of the database, and logs it once per outage.
pub(super) fn database_failed<A: Actor>(
    context: &Context<A>,
    doing: &'static str,
    error: &StoreError,
) {
    context.failed(error);
    DependencyFailed {
        dependency: Dependency::Database,
        doing,
        error,
    }
    .emit_if(error.is_news());
}

/// Ends the outage of this action, if there is one.
pub(super) fn database_worked(doing: &'static str) {
    DependencyWorked {
        dependency: Dependency::Database,
        doing,
    }
    .emit();
}

/// The outcome of a bisected batch.
pub(super) struct Bisected<R> {
    /// The parts that succeeded, each with its result.
    pub(super) done: Vec<(Range<usize>, R)>,
    /// The parts that failed, each with its error: single items that the database refuses, and whole parts that may
    /// succeed later.
    pub(super) failed: Vec<(Range<usize>, StoreError)>,
}

/// Runs `attempt` on a batch. If one item may have caused the error, halves the batch and tries each half, down to
/// single items. If a table cannot be used, tries neighbours of an equal `group` together, so that only those of this table
/// fail. An error that no item causes, such as a lost connection, fails the whole part at once.
pub(super) async fn bisect<T, R, K: PartialEq>(
    batch: &[T],
    group: impl Fn(&T) -> K,
    attempt: impl AsyncFn(&[T]) -> Result<R, StoreError>,
) -> Bisected<R> {
    let groups = |part: &[T]| -> Vec<usize> {
        let groups = part.chunk_by(|one, next| group(one) == group(next));
        groups.map(<[T]>::len).collect()
    };
    let mut bisected = Bisected {
        done: Vec::new(),
        failed: Vec::new(),
    };
    let mut parts = Bisection::of(batch.len());
    while let Some(part) = parts.next_part() {
        match attempt(&batch[part.clone()]).await {
            Ok(done) => bisected.done.push((part, done)),
            Err(error) if error.may_be_of_one_row() && parts.halve(&part) => {}
            Err(StoreError::Unusable(_)) if parts.divide(&part, &groups(&batch[part.clone()])) => {}
            Err(error) => bisected.failed.push((part, error)),
        }
    }
    bisected
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[actix::test]
    async fn rejected_item_is_isolated_and_the_rest_succeeds() {
        let batch: Vec<u32> = (0..20).collect();
        let done = RefCell::new(Vec::new());
        let bisected = bisect(
            &batch,
            |_| (),
            async |part: &[u32]| {
                if part.iter().any(|item| [3, 17].contains(item)) {
                    return Err(StoreError::Refused("a bad row".into()));
                }
                done.borrow_mut().extend_from_slice(part);
                Ok(())
            },
        )
        .await;
        let failed: Vec<_> = bisected.failed.into_iter().map(|(part, _)| part).collect();
        assert_eq!(failed, [3..4, 17..18]);
        let expected: Vec<u32> = (0..20).filter(|item| ![3, 17].contains(item)).collect();
        assert_eq!(done.into_inner(), expected);
    }

    #[actix::test]
    async fn infrastructure_failure_does_not_split_the_batch() {
        for error in [
            StoreError::Busy("deadlock".into()),
            StoreError::ReadOnly("--read-only".into()),
            StoreError::Unusable("disk full".into()),
        ] {
            let batch: Vec<u32> = (0..20).collect();
            let attempts = RefCell::new(0);
            let bisected = bisect(
                &batch,
                |_| (),
                async |_: &[u32]| {
                    *attempts.borrow_mut() += 1;
                    Err::<(), _>(error.clone())
                },
            )
            .await;
            assert_eq!(bisected.failed.len(), 1);
            assert_eq!(attempts.into_inner(), 1);
        }
    }

    #[actix::test]
    async fn unusable_table_fails_only_its_own_rows() {
        let table = |row: &u32| row / 10;
        let batch: Vec<u32> = (0..30).collect();
        let bisected = bisect(&batch, table, async |part: &[u32]| {
            match part.iter().any(|row| table(row) == 1) {
                true => Err(StoreError::Unusable("no such column".into())),
                false => Ok(()),
            }
        })
        .await;
        let done: Vec<_> = bisected.done.into_iter().map(|(part, ())| part).collect();
        let failed: Vec<_> = bisected.failed.into_iter().map(|(part, _)| part).collect();
        let refused = std::iter::once(10..20);
        assert_eq!(done, [0..10, 20..30]);
        assert!(failed.into_iter().eq(refused));
    }
}
