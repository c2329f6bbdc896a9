//! The likes that a benchmark sends: those of a file, or generated ones.

use std::path::PathBuf;

use harness::{Interaction, Interactions, Request, Target, generate};

use crate::failure::Failure;

const GENERATED: u64 = 200_000;
const SEED: u64 = 7;
const WARM_UP_SEED: u64 = 8;

pub(crate) struct Likes {
    file: Option<PathBuf>,
    count: u64,
}

impl Likes {
    /// The likes of a file, or generated ones; at most `limit` of them.
    pub(crate) fn new(file: Option<PathBuf>, limit: Option<u64>) -> Result<Self, Failure> {
        let count = match &file {
            // Finds an invalid line before any measurement.
            Some(path) => Interactions::count(path)?.min(limit.unwrap_or(u64::MAX)),
            None => limit.unwrap_or(GENERATED),
        };
        Ok(Self { file, count })
    }

    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn source(&self) -> String {
        self.file
            .as_ref()
            .map_or_else(|| "generated".to_owned(), |path| path.display().to_string())
    }

    /// The requests to measure, the same ones each time.
    pub(crate) fn requests<'a>(
        &self,
        target: &'a Target,
    ) -> Result<Box<dyn Iterator<Item = Request> + 'a>, Failure> {
        let likes = self.all()?;
        // No file has more lines than fit in memory.
        let count = usize::try_from(self.count).unwrap_or(usize::MAX);
        Ok(Box::new(
            likes.take(count).map(|like| Request::like(target, like)),
        ))
    }

    fn all(&self) -> Result<Box<dyn Iterator<Item = Interaction>>, Failure> {
        Ok(match &self.file {
            Some(path) => Box::new(Interactions::open(path)?.map_while(Result::ok)),
            None => Box::new(generate::likes(SEED)),
        })
    }

    /// The first of the likes.
    pub(crate) fn first(&self, count: u64) -> Result<Vec<Interaction>, Failure> {
        let count = usize::try_from(self.count.min(count)).unwrap_or(usize::MAX);
        Ok(self.all()?.take(count).collect())
    }

    /// Generated likes to send before the measured ones.
    pub(crate) fn warm_up(&self, target: &Target, count: u64) -> impl Iterator<Item = Request> {
        (0..count)
            .zip(generate::likes(WARM_UP_SEED))
            .map(|(_, like)| Request::like(target, like))
    }
}
