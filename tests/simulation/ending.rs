//! Crashes, starts, and the end: faults stop, the clock runs on, and every guarantee must hold.

use chrono::TimeDelta;
use likewise::domain::{EntryId, Pair, Version};
use rand::RngExt;

use super::Broken;
use super::process::Memory;
use super::world::{Step, World};

/// The number of steps after which a world counts as stuck.
const MOST_STEPS: usize = 20_000;

impl World {
    /// The process crashes and loses its memory.
    pub fn crash(&mut self, p: usize) {
        let Some(memory) = self.processes[p].memory.take() else {
            return;
        };
        self.note(|_| format!("  {p} is dead"));
        if self.embedded {
            self.cache.clear();
            return;
        }
        self.leave_to_the_cache(&memory);
        let run = self.cache.run;
        if memory.owed_all || memory.known_run.is_some_and(|known| known != run) {
            self.haunt_all_unless_noticed(run);
        }
    }

    pub fn start(&mut self, p: usize) {
        let process = &mut self.processes[p];
        process.memory = Some(Memory {
            recent: process.worker.then_some(None),
            ..Memory::default()
        });
    }

    /// Stops faults and finishes all work.
    pub fn come_to_rest(&mut self) -> Result<(), Broken> {
        self.note(|_| "faults stop".to_owned());
        self.faults = false;
        self.database_up = true;
        self.stream_up = !self.embedded;
        self.cache_up = true;
        for _ in 0..MOST_STEPS {
            let work = self.work();
            if work.is_empty() {
                if self.wait_for_what_is_due() {
                    continue;
                }
                return Ok(());
            }
            let step = work[self.rng.random_range(0..work.len())];
            self.step(step)?;
        }
        Err(Broken::new("it does not come to rest".to_owned()))
    }

    /// Checks every guarantee of a world at rest.
    pub fn everything_fits(&mut self) -> Result<(), Broken> {
        self.every_acknowledged_event_has_arrived()?;
        self.database.is_what_its_events_add_up_to()?;
        self.cache_is_right(false)?;

        // A starting worker settles what a dead one could not.
        let workers = self.processes.iter().position(|process| process.worker);
        if let Some(worker) = workers {
            self.step(Step::Crash(worker))?;
            self.step(Step::Start(worker))?;
            self.come_to_rest()?;
            self.cache_is_right(true)?;
        }

        // What died with its process is overdue by now, and the next touch mends it.
        self.now += TimeDelta::days(1);
        for pair in self.all_pairs() {
            self.reconcile(0, &pair, Version::LAST);
        }
        self.come_to_rest()?;
        self.cache.haunted.clear();
        self.cache_is_right(true)?;

        // Checks the cache after every pair was read.
        for pair in self.all_pairs() {
            self.load_missing(0, pair, None);
        }
        self.come_to_rest()?;
        self.cache_is_right(true)?;
        for pair in self.all_pairs() {
            let reading = self.cache.read(&pair, self.wall_version(0));
            let known = reading.liked.is_some() && reading.like_count.is_some();
            let excused = EntryId::of_pair(&pair)
                .iter()
                .any(|entry| self.cache.is_excused(entry));
            if !known && !excused {
                return Err(Broken::new(format!(
                    "nobody is under way, but the cache does not know {pair:?}: {reading:?}"
                )));
            }
        }
        Ok(())
    }

    /// Checks that each value in the cache equals the database.
    fn cache_is_right(&mut self, told: bool) -> Result<(), Broken> {
        for pair in self.all_pairs() {
            if told {
                self.cache.untold.clear();
            }
            let [user, count] = EntryId::of_pair(&pair).map(|entry| self.cache.is_excused(&entry));
            for excused in [user, count] {
                self.looked_at[usize::from(excused)] += 1;
            }
            self.pair_is_right(&pair, !user, !count)?;
        }
        Ok(())
    }

    fn pair_is_right(&self, pair: &Pair, user: bool, count: bool) -> Result<(), Broken> {
        let reading = self.cache.read(pair, Version::NEVER);
        let (said_liked, said_count) = (
            reading.liked.filter(|_| user),
            reading.like_count.filter(|_| count),
        );
        let liked = self.database.mark(pair).liked;
        let count = self.database.count(&pair.resource.clone()).like_count;
        if said_liked.is_some_and(|says| says != liked)
            || said_count.is_some_and(|says| says != count)
        {
            return Err(Broken::new(format!(
                "the cache says {reading:?} of {pair:?}; the database says liked: {liked}, \
                 count: {count}; the entries: {}",
                self.cache.show(pair)
            )));
        }
        Ok(())
    }
}
