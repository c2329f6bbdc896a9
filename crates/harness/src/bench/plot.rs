//! Draws the results as an SVG picture: for each case a bar of the CPU time of a request, in the colours of the processes,
//! and its rate behind it. The picture needs no fonts or scripts, and is the same for the same figures.

use std::fmt::Write;

use super::report::{Case, Report};

const WIDTH: f64 = 960.0;
/// Where bars begin, and their greatest length.
const LEFT: f64 = 330.0;
const LONGEST: f64 = 440.0;
const LINE: f64 = 24.0;
const TOP: f64 = 74.0;

/// A colour for each process. Servers have the same one in every picture.
const COLOURS: [(&str, &str); 10] = [
    ("api", "#4477aa"),
    ("hello", "#888888"),
    ("likewise", "#4477aa"),
    ("mariadb", "#aa3377"),
    ("nats", "#228833"),
    ("postgres", "#aa3377"),
    ("redis", "#ee6677"),
    ("worker", "#66ccee"),
    ("worker-2", "#99ddff"),
    ("client", "#ccbb44"),
];

/// Returns the picture of a report.
pub(super) fn svg(report: &Report) -> String {
    let is_shown = |case: &&Case| case.median("cpu_us").is_some();
    let cases: Vec<_> = report.cases.iter().filter(is_shown).collect();
    let longest = cases
        .iter()
        .filter_map(|case| case.median("cpu_us"))
        .fold(1.0, f64::max);
    let height = TOP + LINE * cases.len() as f64 + 40.0;
    let mut picture = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    text(
        &mut picture,
        (16.0, 26.0),
        "start",
        16,
        &format!(
            "CPU time of a request in all processes, µs (on {})",
            report.on
        ),
    );
    legend(&mut picture, &cases);
    for (place, case) in cases.iter().enumerate() {
        let y = TOP + LINE * place as f64;
        let title = format!("{} · {}", case.full_title(), case.connections);
        text(&mut picture, (LEFT - 10.0, y + 15.0), "end", 12, &title);
        let mut x = LEFT;
        for (process, cost) in case.processes("cpu_us_") {
            let width = cost / longest * LONGEST;
            let _ = writeln!(
                picture,
                "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{}\"/>",
                y + 3.0,
                LINE - 7.0,
                colour(process)
            );
            x += width;
        }
        let rate = case
            .median("completed_per_second")
            .or(case.median("per_second"))
            .unwrap_or_default();
        let total = case.median("cpu_us").unwrap_or_default();
        let hellos = case.median("hellos").unwrap_or_default();
        let label = format!("{total:.0} µs = {hellos:.1} hellos, {rate:.0}/s");
        text(&mut picture, (x + 6.0, y + 15.0), "start", 12, &label);
    }
    let machine = format!("medians of {} rounds; {}", report.rounds, report.machine);
    text(&mut picture, (16.0, height - 14.0), "start", 11, &machine);
    picture.push_str("</svg>\n");
    picture
}

fn legend(picture: &mut String, cases: &[&Case]) {
    let mut processes: Vec<_> = cases
        .iter()
        .flat_map(|case| case.processes("cpu_us_").map(|(name, _)| name))
        .collect();
    processes.sort_unstable();
    processes.dedup();
    let mut x = 16.0;
    for process in processes {
        let _ = writeln!(
            picture,
            "<rect x=\"{x:.1}\" y=\"42\" width=\"12\" height=\"12\" fill=\"{}\"/>",
            colour(process)
        );
        text(picture, (x + 17.0, 53.0), "start", 12, process);
        x += 35.0 + 7.5 * process.len() as f64;
    }
}

fn colour(process: &str) -> &'static str {
    let known = COLOURS.iter().find(|(name, _)| *name == process);
    known.map_or("#bbbbbb", |(_, colour)| colour)
}

fn text(picture: &mut String, (x, y): (f64, f64), anchor: &str, size: u8, words: &str) {
    let words = words
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    // Writing to a string cannot fail.
    let _ = writeln!(
        picture,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\" fill=\"#222222\">{words}</text>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::report;

    #[test]
    fn picture_has_a_bar_for_each_process_and_escapes_names() {
        let picture = svg(&report());
        assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
        // The background, one colour of the legend, and two bars; the longer one is twice the other.
        assert_eq!(picture.matches("<rect").count(), 4, "{picture}");
        assert!(
            picture.contains("width=\"440.0\"") && picture.contains("width=\"220.0\""),
            "{picture}"
        );
        assert!(picture.contains("weekend &lt;x&gt;"), "{picture}");
    }
}
