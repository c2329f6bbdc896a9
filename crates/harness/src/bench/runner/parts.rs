//! Each server alone, with the payloads of Likewise.

use std::time::Duration;

use super::{Hello, Runner, row};
use crate::bench::failure::BenchError;
use crate::bench::limit;
use crate::bench::measure::Measured;
use crate::bench::report::Figures;
use crate::bench::service::{Service, used_between};
use crate::bench::workload::Keys;
use crate::io_error::doing;
use crate::process::Process;
use crate::summary::Summary;

/// The parts: their tools and titles.
pub(super) const PARTS: [(&str, &str); 7] = [
    ("redis", "Redis: the cache's script"),
    ("publish", "NATS: publish, an event a message"),
    ("publish-batch", "NATS: publish, 64 events a message"),
    ("pull", "NATS: pull, an event a message"),
    ("pull-batch", "NATS: pull, 64 events a message"),
    ("database", "database: 500 likes in one transaction"),
    ("database-two", "database: 500 likes in two transactions"),
];

impl Runner<'_> {
    /// Measures each server alone, with the payloads of Likewise.
    pub(super) async fn parts(&mut self, hello: Hello) -> Result<(), BenchError> {
        let service = Service::start(self.place, self.likewise()).await?;
        for (part, title) in PARTS {
            let measured = self.within(title, self.part(&service, part)).await?;
            let row = row(
                &format!("part_{}", part.replace('-', "_")),
                title,
                &service.contestant,
                1,
            );
            self.add(&row, Figures::of(&measured, hello.put));
        }
        Ok(())
    }

    async fn part(&self, service: &Service, part: &str) -> Result<Measured, BenchError> {
        let count = self.workload.count(Keys::Uniform);
        let mut client = service.part(self.place, part, count)?;
        let limit = limit(self.args);
        client.logged("ready", limit).await?;
        let usage = |client: &Process| -> Result<_, BenchError> {
            let mut usage = service.usage()?;
            // The processes of Likewise are idle.
            usage.retain(|(name, _)| name != "api" && !name.starts_with("worker"));
            usage.push(("client".to_owned(), client.usage()?));
            Ok(usage)
        };
        let before = usage(&client)?;
        let go = service.folder().join("go");
        std::fs::write(&go, "").map_err(doing("starting a part"))?;
        let took = client.logged("finished in ", limit).await?;
        let usage = used_between(&before, usage(&client)?);
        std::fs::remove_file(&go).map_err(doing("ending a part"))?;
        let seconds = took
            .split(' ')
            .next()
            .and_then(|seconds| seconds.parse().ok());
        let mut load = Summary::new();
        load.accepted = count;
        load.elapsed = Duration::from_secs_f64(seconds.unwrap_or_default());
        Ok(Measured {
            load,
            completed_after: None,
            usage,
            completion: None,
        })
    }
}
