//! What was measured, over all rounds: as a table for people or as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use harness::machine::Machine;
use serde::Serialize;

use crate::likes::Likes;
use crate::measure::Measured;
use crate::reads::Reads;

/// The figures of one round.
pub(crate) struct Sample(Vec<Figure>);

struct Figure {
    /// Its name in JSON.
    key: String,
    /// Its name in the table.
    label: String,
    digits: usize,
    value: f64,
}

impl Sample {
    pub(crate) fn new(hello: &Measured, likewise: &Measured) -> Self {
        let mut figures = Vec::new();
        let mut add = |key: &str, label: &str, digits, value| {
            figures.push(Figure {
                key: key.to_owned(),
                label: label.to_owned(),
                digits,
                value,
            });
        };
        let one_hello = hello.cpu_per_request(hello.cpu());
        let one_like = likewise.cpu_per_request(likewise.cpu());
        let rate = |requests: u64, time: Duration| requests as f64 / time.as_secs_f64();
        let accepted = likewise.load.accepted;
        let latency = |quantile| likewise.load.latency.value_at_quantile(quantile) as f64 / 1_000.0;

        add(
            "hello_per_second",
            "hello: requests/s",
            0,
            rate(hello.load.accepted, hello.load.elapsed),
        );
        add("hello_cpu_us", "hello: CPU µs per request", 1, one_hello);
        add(
            "accepted_per_second",
            "accepted likes/s",
            0,
            rate(accepted, likewise.load.elapsed),
        );
        add(
            "completed_per_second",
            "completed likes/s",
            0,
            rate(accepted, likewise.completed_after),
        );
        add("like_cpu_us", "CPU µs per like, all processes", 1, one_like);
        if likewise.usage.len() > 1 {
            for (name, usage) in &likewise.usage {
                add(
                    &format!("like_cpu_us_{name}"),
                    &format!("CPU µs per like, {name}"),
                    1,
                    likewise.cpu_per_request(usage.cpu),
                );
            }
        }
        add(
            "like_in_hellos",
            "CPU per like, in hellos",
            2,
            one_like / one_hello,
        );
        add("latency_p50_ms", "latency p50, ms", 2, latency(0.5));
        add("latency_p99_ms", "latency p99, ms", 2, latency(0.99));
        add("latency_max_ms", "latency max, ms", 2, latency(1.0));
        for (name, usage) in &likewise.usage {
            add(
                &format!("peak_memory_mib_{name}"),
                &format!("peak memory of {name}, MiB"),
                1,
                usage.peak_memory as f64 / 1_048_576.0,
            );
        }
        Self(figures)
    }
}

impl Sample {
    /// The figures of every kind of read.
    pub(crate) fn of_reads(reads: &Reads) -> Self {
        let mut figures = Vec::new();
        let mut add = |key: String, label: String, digits, value| {
            figures.push(Figure {
                key,
                label,
                digits,
                value,
            });
        };
        let rate = |measured: &Measured| {
            measured.load.accepted as f64 / measured.load.elapsed.as_secs_f64()
        };
        let one_hello = reads.hello.cpu_per_request(reads.hello.cpu());
        let hello = [("hello", &reads.hello)].into_iter();
        let cases = reads.cases.iter().map(|(case, measured)| (*case, measured));
        for (case, measured) in hello.chain(cases) {
            let words = case.replace('_', " ");
            let cpu = measured.cpu_per_request(measured.cpu());
            add(
                format!("{case}_per_second"),
                format!("{words}: requests/s"),
                0,
                rate(measured),
            );
            add(
                format!("{case}_cpu_us"),
                format!("{words}: CPU µs, all processes"),
                1,
                cpu,
            );
            if measured.usage.len() > 1 {
                for (name, usage) in &measured.usage {
                    add(
                        format!("{case}_cpu_us_{name}"),
                        format!("{words}: CPU µs, {name}"),
                        1,
                        measured.cpu_per_request(usage.cpu),
                    );
                }
            }
            add(
                format!("{case}_in_hellos"),
                format!("{words}, in hellos"),
                2,
                cpu / one_hello,
            );
        }
        Self(figures)
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: [&str; 2] = ["completed_per_second", "like_cpu_us"];
        let is_shown =
            |figure: &&Figure| SHOWN.contains(&&*figure.key) || figure.key.ends_with("_in_hellos");
        let shown = self.0.iter().filter(is_shown);
        for (index, figure) in shown.enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(
                f,
                "{comma}{}: {:.*}",
                figure.label, figure.digits, figure.value
            )?;
        }
        Ok(())
    }
}

impl Measured {
    fn cpu(&self) -> Duration {
        self.usage.iter().map(|(_, usage)| usage.cpu).sum()
    }

    fn cpu_per_request(&self, cpu: Duration) -> f64 {
        cpu.as_secs_f64() * 1_000_000.0 / self.load.accepted as f64
    }
}

/// All rounds.
pub(crate) struct Report {
    head: Head,
    results: Vec<(u16, Vec<Sample>)>,
}

#[derive(Serialize)]
struct Head {
    machine: Machine,
    source: String,
    likes: u64,
    warm_up: u64,
    rounds: u32,
}

/// One figure over all rounds.
#[derive(Serialize)]
struct Spread {
    min: f64,
    median: f64,
    max: f64,
    rounds: Vec<f64>,
}

impl Spread {
    /// Of the figure at this place in each sample: all samples have the same ones.
    fn of(samples: &[Sample], place: usize) -> Self {
        let rounds: Vec<f64> = samples.iter().map(|Sample(f)| f[place].value).collect();
        let mut sorted = rounds.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let last = sorted.len() - 1;
        Self {
            min: sorted[0],
            median: f64::midpoint(sorted[last / 2], sorted[last.div_ceil(2)]),
            max: sorted[last],
            rounds,
        }
    }
}

impl Report {
    pub(crate) fn new(likes: &Likes, rounds: u32, warm_up: u64) -> Self {
        Self {
            head: Head {
                machine: Machine::this(),
                source: likes.source(),
                likes: likes.count(),
                warm_up,
                rounds,
            },
            results: Vec::new(),
        }
    }

    /// Takes in all rounds with so many connections.
    pub(crate) fn add(&mut self, connections: u16, samples: Vec<Sample>) {
        self.results.push((connections, samples));
    }

    pub(crate) fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        #[derive(Serialize)]
        struct Whole<'a> {
            #[serde(flatten)]
            head: &'a Head,
            results: Vec<Result<'a>>,
        }
        #[derive(Serialize)]
        struct Result<'a> {
            connections: u16,
            figures: BTreeMap<&'a str, Spread>,
        }
        let results = self.results.iter().map(|(connections, samples)| Result {
            connections: *connections,
            figures: spreads(samples)
                .map(|(figure, spread)| (figure.key.as_str(), spread))
                .collect(),
        });
        let whole = Whole {
            head: &self.head,
            results: results.collect(),
        };
        serde_json::to_writer_pretty(&mut *out, &whole)?;
        writeln!(out)
    }

    pub(crate) fn write_table(&self, out: &mut impl Write) -> io::Result<()> {
        let mut table = Table::new();
        table.load_preset(presets::UTF8_FULL_CONDENSED);
        table.set_header(["connections", "figure", "min", "median", "max"]);
        for (connections, samples) in &self.results {
            for (figure, spread) in spreads(samples) {
                let shown = |value| format!("{value:.*}", figure.digits);
                table.add_row([
                    connections.to_string(),
                    figure.label.clone(),
                    shown(spread.min),
                    shown(spread.median),
                    shown(spread.max),
                ]);
            }
        }
        for column in [0, 2, 3, 4] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let Head {
            machine,
            source,
            likes,
            warm_up,
            rounds,
        } = &self.head;
        writeln!(out, "{table}")?;
        writeln!(
            out,
            "{likes} likes ({source}) after {warm_up} to warm up, rounds: {rounds}; {machine}"
        )
    }
}

fn spreads(samples: &[Sample]) -> impl Iterator<Item = (&Figure, Spread)> {
    let figures = samples.first().map_or(&[][..], |Sample(figures)| figures);
    figures
        .iter()
        .enumerate()
        .map(|(place, figure)| (figure, Spread::of(samples, place)))
}
