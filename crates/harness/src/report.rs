//! The result of a load, as a table or as JSON. `load` prints one of them at its end.

use std::collections::BTreeMap;
use std::io::{self, Write};

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::summary::Summary;

/// The [`Summary`] in the units of the output.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    sent: u64,
    accepted: u64,
    failed: u64,
    likes: u64,
    unlikes: u64,
    seconds: f64,
    rate_per_second: f64,
    /// `None` if no request was accepted.
    latency_ms: Option<Latency>,
    failures: BTreeMap<String, u64>,
    /// `None` if no request was answered with a status other than 2xx.
    first_refusal: Option<String>,
    seed: u64,
    interrupted: bool,
}

#[derive(Debug, Serialize)]
struct Latency {
    p50: f64,
    p99: f64,
    max: f64,
}

impl Report {
    pub(crate) fn new(summary: &Summary, seed: u64) -> Self {
        let seconds = summary.elapsed.as_secs_f64();
        let rate_per_second = if seconds > 0.0 {
            summary.sent() as f64 / seconds
        } else {
            0.0
        };
        let milliseconds = |microseconds: u64| microseconds as f64 / 1_000.0;
        let latency = &summary.latency;
        Self {
            sent: summary.sent(),
            accepted: summary.accepted,
            failed: summary.failed(),
            likes: summary.likes,
            unlikes: summary.unlikes,
            seconds: rounded(seconds, 3),
            rate_per_second: rounded(rate_per_second, 1),
            latency_ms: (!latency.is_empty()).then(|| Latency {
                p50: milliseconds(latency.value_at_quantile(0.50)),
                p99: milliseconds(latency.value_at_quantile(0.99)),
                max: milliseconds(latency.max()),
            }),
            failures: summary
                .failures
                .iter()
                .map(|(failure, count)| (failure.to_string(), *count))
                .collect(),
            first_refusal: summary.first_refusal.clone(),
            seed,
            interrupted: summary.interrupted,
        }
    }

    /// Writes one JSON object and a newline.
    pub(crate) fn write_json(&self, output: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer(&mut *output, self)?;
        writeln!(output)
    }

    /// Writes a table, and, if there are failures, a second one with their kinds, and what the first refusal says.
    pub(crate) fn write_table(&self, output: &mut impl Write) -> io::Result<()> {
        let latency = |value: fn(&Latency) -> f64| {
            self.latency_ms.as_ref().map_or_else(
                || "-".to_owned(),
                |latency| format!("{:.3}", value(latency)),
            )
        };
        let rows = [
            ("sent", self.sent.to_string()),
            ("accepted", self.accepted.to_string()),
            ("failed", self.failed.to_string()),
            ("likes", self.likes.to_string()),
            ("unlikes", self.unlikes.to_string()),
            ("seconds", format!("{:.3}", self.seconds)),
            ("rate per second", format!("{:.1}", self.rate_per_second)),
            ("latency p50, ms", latency(|latency| latency.p50)),
            ("latency p99, ms", latency(|latency| latency.p99)),
            ("latency max, ms", latency(|latency| latency.max)),
            ("seed", self.seed.to_string()),
        ];
        if self.interrupted {
            writeln!(output, "interrupted before the end of the load")?;
        }
        writeln!(output, "{}", table(rows))?;
        if !self.failures.is_empty() {
            let rows = self
                .failures
                .iter()
                .map(|(failure, count)| (failure.as_str(), count.to_string()));
            writeln!(output, "failures by kind\n{}", table(rows))?;
        }
        if let Some(refusal) = &self.first_refusal {
            writeln!(output, "the first refusal: {refusal}")?;
        }
        Ok(())
    }
}

fn table<'a>(rows: impl IntoIterator<Item = (&'a str, String)>) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY);
    for (name, value) in rows {
        table.add_row([name.to_owned(), value]);
    }
    if let Some(values) = table.column_mut(1) {
        values.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hyper::{Method, StatusCode, Uri};

    use super::*;
    use crate::client::{Failure, Outcome};
    use crate::request::Request;

    fn report(outcomes: &[Outcome]) -> Report {
        let mut summary = Summary::new();
        let request = Request {
            body: bytes::Bytes::new(),
            method: Method::PUT,
            path: Uri::from_static("/v1/videos/7/like"),
            user_id: 1,
            video_id: None,
        };
        for outcome in outcomes {
            let body = br#"{"title":"Overloaded"}"#;
            summary.add(&request, outcome, body, Duration::from_millis(2));
        }
        summary.elapsed = Duration::from_millis(500);
        Report::new(&summary, 42)
    }

    fn printed(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut output = Vec::new();
        write(&mut output).expect("memory");
        String::from_utf8(output).expect("text")
    }

    #[test]
    fn json_and_table_show_the_same_figures() {
        let report = report(&[
            Ok(StatusCode::OK),
            Err(Failure::Status(StatusCode::SERVICE_UNAVAILABLE)),
        ]);
        let json: serde_json::Value =
            serde_json::from_str(&printed(|output| report.write_json(output))).expect("one object");
        assert_eq!(json["sent"], 2);
        assert_eq!(json["rate_per_second"], 4.0);
        assert_eq!(json["failures"]["HTTP 503 Service Unavailable"], 1);
        let refusal = "HTTP 503 Service Unavailable: Overloaded";
        assert_eq!(json["first_refusal"], refusal);
        assert_eq!(json["seed"], 42);
        let table = printed(|output| report.write_table(output));
        for cell in [
            "HTTP 503 Service Unavailable",
            refusal,
            "4.0",
            "0.500",
            "2.000",
            "42",
        ] {
            assert!(table.contains(cell), "{cell} is not in\n{table}");
        }
    }

    #[test]
    fn latency_is_null_without_accepted_requests() {
        let report = report(&[Err(Failure::TimedOut)]);
        assert!(printed(|output| report.write_json(output)).contains("\"latency_ms\":null"));
    }

    #[test]
    fn failure_table_is_shown_only_after_failures() {
        let report = report(&[Ok(StatusCode::OK)]);
        assert!(!printed(|output| report.write_table(output)).contains("failures by kind"));
    }
}
