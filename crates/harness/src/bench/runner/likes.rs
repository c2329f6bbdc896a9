//! Likes until they are durable and cached, and until they are completed in the database.

use super::{Hello, Runner, row};
use crate::bench::contestant::Contestant;
use crate::bench::failure::BenchError;
use crate::bench::measure::{Measured, measure, measure_answers};
use crate::bench::report::Figures;
use crate::bench::service::Service;
use crate::bench::workload::{self, Keys, lines};
use crate::request::Request;

impl Runner<'_> {
    /// Measures likes until they are durable and cached, and then, if asked to, others while many likes of one video
    /// wait. The worker starts again after them.
    pub(super) async fn accept(
        &mut self,
        connections: u16,
        hello: Hello,
    ) -> Result<(), BenchError> {
        let title = "accept: durable and cached";
        let mut service = self.start(self.likewise()).await?;
        let backlog = self.args.in_flight;
        let work = async {
            let target = service.target.clone();
            let warm_up =
                self.workload
                    .requests(&target, Keys::Uniform, Some(self.args.warm_up))?;
            measure(&service, connections, warm_up).await?;
            service.stop_recording().await?;
            let likes = self.workload.requests(&target, Keys::Uniform, None)?;
            let measured = measure_answers(&service, connections, likes).await?;
            let mut accepted = measured.load.accepted;
            let mut sent = self.workload.sent(Keys::Uniform, self.args.warm_up)?;
            let mut beside = None;
            if backlog > 0 {
                let others = self.workload.count(Keys::Uniform);
                let like = |like| Request::like(&target, like);
                let likes = workload::backlog(backlog).map(like);
                accepted += measure_answers(&service, connections, likes)
                    .await?
                    .load
                    .accepted;
                let likes = workload::beside(others).map(like);
                let measured = measure_answers(&service, connections, likes).await?;
                accepted += measured.load.accepted;
                sent.push_str(&lines(
                    workload::backlog(backlog).chain(workload::beside(others)),
                ));
                beside = Some(measured);
            }
            service.start_recording(self.place).await?;
            service.until_completed(accepted).await?;
            self.check(&service, &sent).await?;
            Ok((measured, beside))
        };
        let (measured, beside) = self.within(title, work).await?;
        let add = |case, title: &str, measured: &Measured| {
            let row = row(case, title, &service.contestant, connections);
            self.add(&row, Figures::of(measured, hello.put));
        };
        add("accept", title, &measured);
        if let Some(beside) = beside {
            let title = format!("accept, beside {backlog} likes in flight on one video");
            add("accept_beside", &title, &beside);
        }
        self.stop(service);
        Ok(())
    }

    /// Measures likes until they are completed in the database, and checks the data.
    pub(super) async fn pipeline(
        &mut self,
        contestant: &Contestant,
        keys: Keys,
        connections: u16,
        hello: Hello,
    ) -> Result<(), BenchError> {
        let title = match keys {
            Keys::Uniform => "full pipeline, uniform keys",
            Keys::Skew => "full pipeline, real skew",
            Keys::Hot => "full pipeline, one video",
        };
        let service = self.start(contestant.clone()).await?;
        let work = async {
            let target = &service.target;
            let warm_up = self
                .workload
                .requests(target, keys, Some(self.args.warm_up))?;
            measure(&service, connections, warm_up).await?;
            let likes = self.workload.requests(target, keys, None)?;
            let measured = measure(&service, connections, likes).await?;
            let sent = self.workload.sent(keys, self.args.warm_up)?;
            self.check(&service, &sent).await?;
            Ok(measured)
        };
        let measured = self.within(title, work).await?;
        let case = format!("pipeline_{}", keys.name());
        let row = row(&case, title, &service.contestant, connections);
        self.add(&row, Figures::of(&measured, hello.put));
        self.stop(service);
        Ok(())
    }

    /// Fails unless a service holds exactly what it was sent. With rows it has more; its guarantees are checked at the end.
    async fn check(&self, service: &Service, sent: &str) -> Result<(), BenchError> {
        if self.args.rows > 0 {
            return Ok(());
        }
        service.verify(self.place).await?;
        service.check(self.place, sent).await
    }
}
