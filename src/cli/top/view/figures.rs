//! The figures above the table: throughput, completion times, ledger, dependencies and processes.

use std::collections::VecDeque;

use ratatui::text::{Line, Span};

use super::style::{Styles, Tone};
use crate::cli::format::{duration, millis, rate, whole};
use crate::cli::top::answers::PartState;
use crate::cli::top::model::Model;
use crate::cli::top::processes::Process;

/// The statuses of the ledger, with how many rows are worth a look.
const STATUSES: [(&str, Tone); 5] = [
    ("pending", Tone::Good),
    ("processing", Tone::Good),
    ("failed", Tone::Warning),
    ("dead", Tone::Bad),
    ("completed", Tone::Good),
];

/// The levels of a bar.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Returns the lines of figures.
pub(super) fn lines(model: &Model, styles: Styles, width: usize) -> Vec<Line<'static>> {
    vec![
        throughput(model, styles, width),
        times(model, styles),
        ledger(model, styles),
        dependencies(model, styles),
    ]
}

fn label(text: &str, styles: Styles) -> Span<'static> {
    Span::styled(format!(" {text} "), styles.label())
}

fn throughput(model: &Model, styles: Styles, width: usize) -> Line<'static> {
    let (accepted, completed) = model.throughput.back().copied().unwrap_or_default();
    // Half of the width each, less the words.
    let bars = (width / 2).saturating_sub(24).min(60);
    let history = |of: fn(&(f64, f64)) -> f64| bar(&model.throughput, of, bars);
    let shown = |rate_now: f64| Span::styled(format!("{:>7}/s ", rate(rate_now)), Styles::bold());
    Line::from(vec![
        label("accepted", styles),
        shown(accepted),
        Span::styled(history(|both| both.0), styles.of(Tone::Good)),
        label("  completed", styles),
        shown(completed),
        Span::styled(history(|both| both.1), styles.of(Tone::Good)),
    ])
}

/// Returns the last rates as bars, one a report, beneath the highest of them.
fn bar(throughput: &VecDeque<(f64, f64)>, of: fn(&(f64, f64)) -> f64, length: usize) -> String {
    let skipped = throughput.len().saturating_sub(length);
    let rates: Vec<f64> = throughput.iter().skip(skipped).map(of).collect();
    let highest = rates.iter().copied().fold(0.0, f64::max);
    let bars = rates.iter().map(|rate| {
        let level = (rate / highest * 7.0).round();
        // Without any rate, the division has no number as its result.
        BARS[if level.is_finite() { level as usize } else { 0 }]
    });
    let missing = length - rates.len();
    std::iter::repeat_n(' ', missing).chain(bars).collect()
}

fn times(model: &Model, styles: Styles) -> Line<'static> {
    let mut spans = vec![label("accepted to completed", styles)];
    match model.figures.completion {
        Some(times) => {
            for (name, ms) in [("p50", times.p50), ("p95", times.p95), ("p99", times.p99)] {
                spans.push(Span::raw(format!("{name} ")));
                spans.push(Span::styled(format!("{}  ", duration(ms)), Styles::bold()));
            }
        }
        None => spans.push(Span::styled("no like lately  ", styles.of(Tone::Quiet))),
    }
    let lag = model.processes.consumer_lag();
    let lag = lag.map_or_else(|| "–".to_owned(), whole);
    spans.push(label("consumer lag", styles));
    spans.push(Span::styled(lag, Styles::bold()));
    Line::from(spans)
}

fn ledger(model: &Model, styles: Styles) -> Line<'static> {
    let mut spans = vec![label("ledger", styles)];
    let Some(ledger) = &model.figures.ledger else {
        spans.push(Span::styled("not known now", styles.of(Tone::Quiet)));
        return Line::from(spans);
    };
    for (status, tone) in STATUSES {
        if let Some(oldest) = ledger.oldest_open_at.filter(|_| status == "completed") {
            let ms = (model.captured_at - oldest).num_milliseconds().max(0);
            spans.push(Span::raw(format!("oldest {}  ", millis(ms.unsigned_abs()))));
        }
        let rows = ledger.rows.get(status).copied().unwrap_or_default();
        let is_estimate = status == "completed" && ledger.completed_is_estimate;
        let about = if is_estimate { "about " } else { "" };
        let style = match rows {
            0 => styles.of(Tone::Quiet),
            _ if tone == Tone::Good => Styles::bold(),
            _ => styles.of(tone),
        };
        spans.push(Span::raw(format!("{status} ")));
        spans.push(Span::styled(format!("{about}{}  ", whole(rows)), style));
    }
    Line::from(spans)
}

fn dependencies(model: &Model, styles: Styles) -> Line<'static> {
    let mut spans = vec![label("depends on", styles)];
    let Some(readiness) = &model.figures.readiness else {
        spans.push(Span::styled("not known now", styles.of(Tone::Quiet)));
        return Line::from(spans);
    };
    for (name, part) in &readiness.parts {
        let tone = Tone::from(part.state);
        let kind = if part.kind == "in-process" {
            name
        } else {
            &part.kind
        };
        let down = part
            .masters
            .iter()
            .filter(|one| one.state == PartState::Down)
            .count();
        let state = match (part.state, down) {
            (PartState::Down, _) => " down".to_owned(),
            (PartState::Up, 0) => String::new(),
            (PartState::Up, down) => format!(" {down} of {} masters down", part.masters.len()),
        };
        let tone = if down > 0 { Tone::Bad } else { tone };
        spans.push(Span::styled(
            format!("{} {kind}{state}  ", tone.sign()),
            styles.of(tone),
        ));
    }
    spans.push(label("clock", styles));
    let skew = match readiness.clock_skew_ms {
        None => "–".to_owned(),
        Some(0) => "in step".to_owned(),
        Some(ms) => signed(ms),
    };
    spans.push(Span::raw(skew));
    if !readiness.ready {
        spans.push(Span::styled("  ✗ not ready", styles.of(Tone::Bad)));
    }
    Line::from(spans)
}

fn signed(ms: i64) -> String {
    let sign = if ms < 0 { '−' } else { '+' };
    format!("{sign}{}", millis(ms.unsigned_abs()))
}

/// Returns the processes if there are several, as so many lines.
pub(super) fn processes(model: &Model, styles: Styles, most: usize) -> Vec<Line<'static>> {
    let all = model.processes.all();
    if all.len() < 2 {
        let note = model
            .note
            .clone()
            .filter(|_| model.figures.readiness.as_ref().is_some_and(has_broker));
        let note = note.map(|note| Line::styled(format!(" ! {note}"), styles.of(Tone::Warning)));
        return note.into_iter().collect();
    }
    let shown = if all.len() > most { most - 1 } else { most };
    let mut lines: Vec<_> = all
        .iter()
        .take(shown)
        .map(|process| line(model, process, styles))
        .collect();
    let hidden = all.len().saturating_sub(shown);
    if hidden > 0 {
        let more = if hidden == 1 { "process" } else { "processes" };
        let text = format!("   and {hidden} more {more}: Tab shows each");
        lines.push(Line::styled(text, styles.of(Tone::Quiet)));
    }
    lines
}

/// Returns whether the deployment has a stream, so that other processes should be seen.
fn has_broker(readiness: &crate::cli::top::answers::Readiness) -> bool {
    readiness.parts.contains_key("broker")
}

fn line(model: &Model, process: &Process, styles: Styles) -> Line<'static> {
    let last = &process.last;
    let tone = Tone::from(last.state);
    let is_chosen = model.process.as_ref() == Some(&last.id);
    let style = if is_chosen {
        Styles::reversed()
    } else {
        Styles::bold()
    };
    let up = duration(last.report.uptime_seconds * 1e3);
    let state = if last.state.is_present() && tone == Tone::Good {
        format!("up {up}")
    } else {
        format!(
            "{} for {}, was up {up}",
            last.state.as_str(),
            millis(last.age_ms)
        )
    };
    let mut spans = vec![
        Span::styled(format!(" {} ", tone.sign()), styles.of(tone)),
        Span::styled(last.host.clone(), style),
        Span::raw(format!(" {} {}  ", last.role, last.version)),
        Span::styled(
            state,
            if tone == Tone::Good {
                styles.of(Tone::Quiet)
            } else {
                styles.of(tone)
            },
        ),
    ];
    if let Some(skew) = process
        .clock_skew_ms()
        .filter(|skew| *skew != 0 && last.state.is_present())
    {
        spans.push(Span::styled(
            format!("  clock {}", signed(skew)),
            styles.of(Tone::Quiet),
        ));
    }
    let in_mailboxes: u64 = last
        .report
        .actors
        .iter()
        .map(|actor| actor.mailbox.depth)
        .sum();
    if in_mailboxes > 0 {
        let words = format!("  {} queued", whole(in_mailboxes));
        spans.push(Span::styled(words, styles.of(Tone::Quiet)));
    }
    Line::from(spans)
}
