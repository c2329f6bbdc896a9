//! Likes alone, and reads and likes together, at a fixed rate.

use std::num::NonZeroU32;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::{Hello, READS, Runner, row};
use crate::bench::failure::BenchError;
use crate::bench::measure::{Measured, measure, measure_at_rate};
use crate::bench::reads::{FILLED, Stored};
use crate::bench::report::{Figures, Row};
use crate::bench::workload::{Keys, Phase};
use crate::request::{Request, Target};

/// Reads for each like, in tenths.
const READS_IN_TEN: u32 = 9;
const SEED: u64 = 11;

impl Runner<'_> {
    /// Measures likes alone, and reads and likes together, at a fixed rate: half of the highest one, unless it is given.
    pub(super) async fn rates(&mut self, connections: u16, hello: Hello) -> Result<(), BenchError> {
        let service = self.start(self.likewise()).await?;
        let stored = self.stored(FILLED)?;
        let target = service.target.clone();
        measure(&service, connections, stored.stores(&target)).await?;

        let title = "likes, highest rate";
        let likes = self.workload.requests(&target, Keys::Uniform, None)?;
        let measured = self
            .within(title, measure(&service, connections, likes))
            .await?;
        let per_second = rate(
            &measured,
            measured.completed_after.unwrap_or(measured.load.elapsed),
        );
        let title = "likes at half of it";
        let half = self.half(per_second);
        let likes = self.workload.likes(Keys::Uniform, Phase::WarmUp)?;
        let likes = likes
            .map(|like| Request::like(&target, like))
            .take(self.at(half));
        let work = measure_at_rate(&service, connections, half, likes);
        let measured = self.within(title, work).await?;
        self.add_rates("likes_at_rate", title, &measured, connections, hello);

        let title = "90 % reads, highest rate";
        let most = self.reads_of(READS);
        let mixed = self.mixed(&stored, &target)?.take(most);
        let measured = self
            .within(title, measure(&service, connections, mixed))
            .await?;
        let case = row("mixed", title, &service.contestant, connections);
        self.add(&case, Figures::of(&measured, hello.get));
        let title = "90 % reads at half of it";
        let half = self.half(rate(&measured, measured.load.elapsed));
        let mixed = self.mixed(&stored, &target)?.skip(most).take(self.at(half));
        let work = measure_at_rate(&service, connections, half, mixed);
        let measured = self.within(title, work).await?;
        self.add_rates("mixed_at_rate", title, &measured, connections, hello);
        if self.args.rows == 0 {
            service.verify(self.place).await?;
        }
        self.stop(service);
        Ok(())
    }

    /// Adds the rows of a fixed rate: all requests, and the latencies of reads, of likes, and of their completion.
    fn add_rates(
        &self,
        case: &str,
        title: &str,
        measured: &Measured,
        connections: u16,
        hello: Hello,
    ) {
        let contestant = self.likewise();
        let row = |suffix: &str, words: &str| {
            let (case, title) = (format!("{case}{suffix}"), format!("{title}{words}"));
            row(&case, &title, &contestant, connections)
        };
        let report = |row: &Row, latency| {
            let mut figures = Figures::default();
            figures.add_latency(latency);
            self.report.borrow_mut().add(row, figures);
        };
        let bare = match measured.load.likes < measured.load.accepted {
            true => hello.get,
            false => hello.put,
        };
        self.add(&row("", ""), Figures::of(measured, bare));
        let mut reads = measured.load.latency.clone();
        if reads.subtract(&measured.load.write_latency).is_ok() && !reads.is_empty() {
            report(&row("_reads", ": reads"), &reads);
            report(&row("_likes", ": likes"), &measured.load.write_latency);
        }
        if let Some(completion) = &measured.completion {
            report(&row("_completed", ": until completed"), completion);
        }
    }

    /// Nine random reads for each new like, in random order, without end.
    fn mixed<'b>(
        &self,
        stored: &'b Stored,
        target: &'b Target,
    ) -> Result<impl Iterator<Item = Request> + use<'b>, BenchError> {
        let mut random = SmallRng::seed_from_u64(SEED);
        let mut likes = self.workload.likes(Keys::Uniform, Phase::Measured)?;
        let mut reads = stored.random_gets(target);
        Ok(std::iter::from_fn(move || {
            if random.random_ratio(READS_IN_TEN, 10) {
                return reads.next();
            }
            likes.next().map(|like| Request::like(target, like))
        }))
    }

    fn half(&self, per_second: f64) -> NonZeroU32 {
        let half = NonZeroU32::new((per_second / 2.0) as u32).unwrap_or(NonZeroU32::MIN);
        self.args.rate.unwrap_or(half)
    }

    /// The number of requests at a rate.
    fn at(&self, rate: NonZeroU32) -> usize {
        let count = u64::from(rate.get()) * u64::from(self.args.seconds);
        usize::try_from(count).unwrap_or(usize::MAX)
    }
}

fn rate(measured: &Measured, time: Duration) -> f64 {
    measured.load.accepted as f64 / time.as_secs_f64().max(1e-9)
}
