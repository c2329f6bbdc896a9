//! Writes the metrics for a scrape, in both text formats: those that were counted, and those that are looked up at the
//! scrape.

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::registry::Registry;

use super::metrics::{ActorLabels, METRICS};
use super::scrape::{Scrape, looked_up};
use super::{outages, process};

/// Returns every metric in the OpenMetrics text format.
#[must_use]
pub fn openmetrics(scrape: &Scrape) -> String {
    for actor in &scrape.actors {
        let labels = ActorLabels { actor: actor.name };
        // Their series are there from the start.
        drop(METRICS.actor_panics.get_or_create(&labels));
        drop(METRICS.actor_restarts.get_or_create(&labels));
    }
    outages::set_gauges();
    let mut text = String::with_capacity(64 * 1024);
    let written = encode_registry(&mut text, METRICS.registry())
        .and_then(|()| encode_registry(&mut text, &looked_up(scrape)))
        .and_then(|()| encode_registry(&mut text, &own_process()))
        .and_then(|()| encode_eof(&mut text));
    if let Err(error) = written {
        unreachable!("writing to a string cannot fail: {error}");
    }
    text
}

/// Returns every metric in the text format of Prometheus, version 0.0.4, for clients that do not know OpenMetrics. There, the
/// name of a counter ends in `_total` also in the lines about it, and units have no line.
#[must_use]
pub fn text(scrape: &Scrape) -> String {
    let openmetrics = openmetrics(scrape);
    let mut text = String::with_capacity(openmetrics.len());
    let mut help = "";
    for line in openmetrics.lines() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        if line.starts_with("# HELP ") {
            // Its type, in the next line, decides the name.
            help = line;
            continue;
        }
        let mut words = line.split(' ');
        if let (Some("#"), Some("TYPE"), Some(name), Some(kind)) =
            (words.next(), words.next(), words.next(), words.next())
        {
            let total = if kind == "counter" { "_total" } else { "" };
            let description = help.splitn(4, ' ').nth(3).unwrap_or_default();
            text.push_str(&format!(
                "# HELP {name}{total} {description}\n# TYPE {name}{total} {kind}\n"
            ));
            continue;
        }
        text.push_str(line);
        text.push('\n');
    }
    text
}

fn own_process() -> Registry {
    let mut registry = Registry::default();
    process::register(&mut registry);
    registry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_format_names_counters_in_full() {
        let text = text(&Scrape::default());
        let counter =
            "# TYPE likewise_events_published_total counter\nlikewise_events_published_total ";
        assert!(text.contains(counter), "{text}");
        let help = "# HELP likewise_events_published_total Events acknowledged by JetStream.\n";
        assert!(text.contains(help), "{text}");
        assert!(
            !text.contains("# EOF") && !text.contains("# UNIT"),
            "{text}"
        );
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (_, value) = line.rsplit_once(' ').expect("a value");
            value.parse::<f64>().expect("a number");
        }
    }

    #[test]
    fn no_metric_is_described_twice() {
        let openmetrics = openmetrics(&Scrape::default());
        let mut names: Vec<_> = openmetrics
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .collect();
        let number = names.len();
        names.sort_unstable();
        names.dedup();
        assert!(number > 40 && names.len() == number, "{names:?}");
        for name in [
            "process_cpu_seconds counter",
            "process_resident_memory_bytes gauge",
            "likewise_build_info gauge",
        ] {
            assert!(names.contains(&name), "{name}: {names:?}");
        }
        let unit = "# UNIT likewise_accept_seconds seconds\nlikewise_accept_seconds_sum ";
        assert!(openmetrics.contains(unit), "{openmetrics}");
        assert!(openmetrics.ends_with("# EOF\n"));
    }
}
