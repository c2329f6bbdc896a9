//! What was measured, over all rounds: a table for people, JSON for programs. `plot` draws it.

use std::collections::BTreeMap;
use std::io::{self, Write};

use comfy_table::{CellAlignment, Table, presets};
use hdrhistogram::Histogram;
use serde::Serialize;

use super::growth::Growth;
use super::measure::Measured;
use crate::machine::Machine;

/// All results.
#[derive(Serialize)]
pub(super) struct Report {
    pub(super) machine: Machine,
    /// The measured version of the code: `git describe`, if the benchmark ran in a repository.
    pub(super) commit: Option<String>,
    pub(super) on: &'static str,
    pub(super) source: String,
    pub(super) likes: u64,
    pub(super) warm_up: u64,
    pub(super) rounds: u32,
    /// The rows in the tables before the first measurement.
    pub(super) rows: u64,
    /// Whether the benchmark was interrupted before its end.
    pub(super) interrupted: bool,
    pub(super) cases: Vec<Case>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) growth: Option<Growth>,
}

/// One row of the table: the figures of one case in each round.
#[derive(Serialize)]
pub(super) struct Case {
    /// Its name for programs.
    pub(super) case: String,
    /// Its name for people.
    pub(super) title: String,
    pub(super) contestant: String,
    pub(super) connections: u16,
    pub(super) figures: BTreeMap<String, Spread>,
}

/// One figure over all rounds.
#[derive(Serialize, Clone, Default)]
pub(super) struct Spread {
    pub(super) min: f64,
    pub(super) median: f64,
    pub(super) max: f64,
    rounds: Vec<f64>,
}

impl Spread {
    fn add(&mut self, value: f64) {
        self.rounds.push(value);
        let mut sorted = self.rounds.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let last = sorted.len() - 1;
        self.min = sorted[0];
        self.median = f64::midpoint(sorted[last / 2], sorted[last.div_ceil(2)]);
        self.max = sorted[last];
    }
}

/// The figures of one case in one round.
#[derive(Default)]
pub(super) struct Figures(Vec<(String, f64)>);

impl Figures {
    /// The figures of a measurement. `hello` is what the bare handler costs, in microseconds.
    pub(super) fn of(measured: &Measured, hello: f64) -> Self {
        let load = &measured.load;
        let rate = |time: f64| load.accepted as f64 / time.max(1e-9);
        let mut figures = Self::default();
        figures.add("per_second", rate(load.elapsed.as_secs_f64()));
        if let Some(time) = measured.completed_after {
            figures.add("completed_per_second", rate(time.as_secs_f64()));
        }
        figures.add("cpu_us", measured.cpu_us());
        // Few requests cost less than the kernel's unit of CPU time.
        if hello > 0.0 {
            figures.add("hellos", measured.cpu_us() / hello);
        }
        figures.add_latency(&load.latency);
        figures.add_processes(measured);
        figures
    }

    pub(super) fn add(&mut self, key: impl Into<String>, value: f64) {
        self.0.push((key.into(), value));
    }

    /// Adds latencies in microseconds, if there are any.
    pub(super) fn add_latency(&mut self, latency: &Histogram<u64>) {
        if latency.is_empty() {
            return;
        }
        for (key, quantile) in [
            ("p50_ms", 0.5),
            ("p99_ms", 0.99),
            ("p999_ms", 0.999),
            ("max_ms", 1.0),
        ] {
            self.add(key, latency.value_at_quantile(quantile) as f64 / 1_000.0);
        }
    }

    fn add_processes(&mut self, measured: &Measured) {
        for (name, usage) in &measured.usage {
            self.add(format!("cpu_us_{name}"), measured.per_request(usage.cpu));
            self.add(
                format!("memory_mib_{name}"),
                usage.peak_memory as f64 / 1_048_576.0,
            );
        }
    }

    fn get(&self, key: &str) -> Option<f64> {
        self.0
            .iter()
            .find(|(one, _)| one == key)
            .map(|(_, value)| *value)
    }

    /// One line for people who wait.
    pub(super) fn summary(&self) -> String {
        let shown = [
            ("completed_per_second", "/s completed", 0),
            ("per_second", "/s", 0),
            ("cpu_us", " µs of CPU", 1),
            ("hellos", " hellos", 2),
            ("p99_ms", " ms p99", 2),
        ];
        let values = shown.iter().filter_map(|(key, unit, digits)| {
            Some(format!("{:.*}{unit}", *digits, self.get(key)?))
        });
        values.collect::<Vec<_>>().join(", ")
    }
}

impl Report {
    /// Adds the figures of one round.
    pub(super) fn add(&mut self, row: &Row, figures: Figures) {
        let same = |case: &&mut Case| {
            case.case == row.case
                && case.contestant == row.contestant
                && case.connections == row.connections
        };
        let found = self.cases.iter_mut().find(same);
        let case = match found {
            Some(case) => case,
            None => {
                self.cases.push(Case {
                    case: row.case.clone(),
                    title: row.title.clone(),
                    contestant: row.contestant.clone(),
                    connections: row.connections,
                    figures: BTreeMap::new(),
                });
                self.cases
                    .last_mut()
                    .unwrap_or_else(|| unreachable!("a row was added"))
            }
        };
        for (key, value) in figures.0 {
            case.figures.entry(key).or_default().add(value);
        }
    }

    pub(super) fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        writeln!(out)
    }

    pub(super) fn write_table(&self, out: &mut impl Write) -> io::Result<()> {
        if self.interrupted {
            writeln!(out, "interrupted; this was measured before")?;
        }
        let mut table = Table::new();
        table.load_preset(presets::UTF8_FULL_CONDENSED);
        table.set_header([
            "case",
            "connections",
            "/s",
            "completed/s",
            "CPU µs",
            "hellos",
            "p50 ms",
            "p99 ms",
            "p99.9 ms",
            "CPU µs by process",
            "MiB by process",
        ]);
        for case in &self.cases {
            let shown = |key: &str, digits| case.shown(key, digits);
            table.add_row([
                case.full_title(),
                case.connections.to_string(),
                shown("per_second", 0),
                shown("completed_per_second", 0),
                shown("cpu_us", 1),
                shown("hellos", 2),
                shown("p50_ms", 2),
                shown("p99_ms", 2),
                shown("p999_ms", 2),
                case.by_process("cpu_us_", 1),
                case.by_process("memory_mib_", 0),
            ]);
        }
        for column in 1..=8 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        writeln!(out, "{table}")?;
        self.write_ratios(out)?;
        if let Some(growth) = &self.growth {
            growth.write(out)?;
        }
        writeln!(
            out,
            "medians of {} rounds; {} likes a measurement ({}) after {} to warm up, {} rows before; on {}; {}{}",
            self.rounds,
            self.likes,
            self.source,
            self.warm_up,
            self.rows,
            self.on,
            self.machine,
            self.commit
                .as_ref()
                .map_or_else(String::new, |commit| format!("; {commit}")),
        )
    }

    /// Compares Likewise with each peer: what it completes, and what it costs, for each of theirs.
    fn write_ratios(&self, out: &mut impl Write) -> io::Result<()> {
        let mut table = Table::new();
        table.load_preset(presets::UTF8_FULL_CONDENSED);
        table.set_header([
            "Likewise beside",
            "case",
            "connections",
            "completed/s",
            "CPU a like",
            "p50",
            "p99",
        ]);
        let mut any = false;
        for peer in self.cases.iter().filter(|case| case.is_of_a_peer()) {
            let is_ours = |case: &&Case| {
                case.contestant == "likewise"
                    && case.case == peer.case
                    && case.connections == peer.connections
            };
            let Some(ours) = self.cases.iter().find(is_ours) else {
                continue;
            };
            any = true;
            let ratio = |key: &str| match (ours.figures.get(key), peer.figures.get(key)) {
                (Some(ours), Some(peer)) if peer.median > 0.0 => {
                    format!("{:.2}", ours.median / peer.median)
                }
                _ => "-".to_owned(),
            };
            table.add_row([
                peer.contestant.clone(),
                peer.title.clone(),
                peer.connections.to_string(),
                ratio("completed_per_second"),
                ratio("cpu_us"),
                ratio("p50_ms"),
                ratio("p99_ms"),
            ]);
        }
        if any {
            writeln!(out, "{table}")?;
        }
        Ok(())
    }
}

impl Case {
    pub(super) fn is_of_a_peer(&self) -> bool {
        !["likewise", "hello", ""].contains(&&*self.contestant)
    }

    pub(super) fn full_title(&self) -> String {
        match self.is_of_a_peer() {
            true => format!("{}: {}", self.contestant, self.title),
            false => self.title.clone(),
        }
    }

    pub(super) fn median(&self, key: &str) -> Option<f64> {
        self.figures.get(key).map(|spread| spread.median)
    }

    fn shown(&self, key: &str, digits: usize) -> String {
        self.median(key)
            .map_or_else(String::new, |value| format!("{value:.digits$}"))
    }

    /// The medians of the figures whose key begins so, with the process that each is of.
    pub(super) fn processes<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        let figures = self.figures.iter();
        figures.filter_map(move |(key, spread)| Some((key.strip_prefix(prefix)?, spread.median)))
    }

    fn by_process(&self, prefix: &str, digits: usize) -> String {
        let parts = self
            .processes(prefix)
            .map(|(name, value)| format!("{name} {value:.digits$}"));
        parts.collect::<Vec<_>>().join(" · ")
    }
}

/// The identity of a row of the table.
#[derive(Clone)]
pub(super) struct Row {
    pub(super) case: String,
    pub(super) title: String,
    pub(super) contestant: String,
    pub(super) connections: u16,
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn report() -> Report {
        let mut report = Report {
            machine: Machine::this(),
            commit: None,
            on: "embedded",
            source: "generated".to_owned(),
            likes: 10,
            warm_up: 1,
            rounds: 3,
            rows: 0,
            interrupted: false,
            cases: Vec::new(),
            growth: None,
        };
        let row = |contestant: &str| Row {
            case: "pipeline_uniform".to_owned(),
            title: "full pipeline, uniform keys".to_owned(),
            contestant: contestant.to_owned(),
            connections: 64,
        };
        for (contestant, costs) in [
            ("likewise", [30.0, 10.0, 20.0]),
            ("weekend <x>", [40.0, 40.0, 40.0]),
        ] {
            for cost in costs {
                let mut figures = Figures::default();
                figures.add("per_second", 1_000.0);
                figures.add("completed_per_second", 900.0);
                figures.add("cpu_us", cost);
                figures.add("hellos", cost / 10.0);
                figures.add("cpu_us_api", cost);
                report.add(&row(contestant), figures);
            }
        }
        report
    }

    #[test]
    fn table_and_json_show_medians_and_ratios() {
        let report = report();
        let mut table = Vec::new();
        report.write_table(&mut table).expect("memory");
        let table = String::from_utf8(table).expect("text");
        for cell in [
            "20.0",
            "weekend <x>: full pipeline",
            "0.50",
            "api 40.0",
            "medians of 3 rounds",
        ] {
            assert!(table.contains(cell), "{cell} is not in\n{table}");
        }
        let mut json = Vec::new();
        report.write_json(&mut json).expect("memory");
        let json: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
        let spread = &json["cases"][0]["figures"]["cpu_us"];
        assert_eq!(
            (&spread["min"], &spread["median"], &spread["max"]),
            (&10.0.into(), &20.0.into(), &30.0.into())
        );
    }
}
