//! Every kind of read, as fast as it is answered.

use super::{Hello, READS, Runner, row};
use crate::bench::failure::BenchError;
use crate::bench::growth;
use crate::bench::measure::{Measured, measure, measure_answers};
use crate::bench::reads::{FILLED, hot_gets, hot_gets_once};
use crate::bench::report::Figures;
use crate::bench::service::Service;

/// The most pages and lists in one measurement.
const PAGES: u64 = 15_000;

impl Runner<'_> {
    /// Measures every kind of read, on likes that were just stored.
    pub(super) async fn reads(&mut self, connections: u16, hello: Hello) -> Result<(), BenchError> {
        let mut service = self.start(self.likewise()).await?;
        let work = self.measure_reads(&mut service, connections);
        let cases = self.within("reads", work).await?;
        for (case, title, measured) in cases {
            let row = row(case, title, &service.contestant, connections);
            self.add(&row, Figures::of(&measured, hello.get));
        }
        self.stop(service);
        Ok(())
    }

    async fn measure_reads(
        &self,
        service: &mut Service,
        connections: u16,
    ) -> Result<Vec<(&'static str, &'static str, Measured)>, BenchError> {
        let stored = self.stored(FILLED)?;
        let target = service.target.clone();
        measure(service, connections, stored.stores(&target)).await?;
        growth::fill(service, self.place, 0, self.args.hot_likes).await?;
        service.restart_cold(self.place).await?;

        let target = service.target.clone();
        let (gets, pages) = (self.reads_of(READS), self.reads_of(PAGES));
        let cold = measure_answers(service, connections, stored.gets_once(&target)).await?;
        let warm = measure_answers(service, connections, stored.gets(&target, gets)).await?;
        measure_answers(service, connections, hot_gets_once(&target)).await?;
        let hot = measure_answers(service, connections, hot_gets(&target, gets)).await?;
        let status = stored.status_pages(&target);
        measure_answers(service, connections, status.iter().cloned()).await?;
        let status = status.iter().cycle().take(pages).cloned();
        let status = measure_answers(service, connections, status).await?;
        let likers = measure_answers(service, connections, stored.likers(&target, pages)).await?;
        let liked = measure_answers(service, connections, stored.liked(&target, pages)).await?;
        if self.args.rows == 0 {
            service.verify(self.place).await?;
        }
        Ok(vec![
            ("get_warm", "GET of a like, warm", warm),
            ("get_cold", "GET of a like, cold", cold),
            ("get_hot", "GET of a hot video, random users", hot),
            ("status_of_100", "status of 100", status),
            ("list_of_50_likers", "list of 50 likers", likers),
            ("list_of_50_liked", "list of 50 of a user", liked),
        ])
    }
}
