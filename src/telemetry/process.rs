//! The figures of the process, from `/proc`, under the names that client libraries of Prometheus agree on.

use std::fs;
use std::sync::LazyLock;

use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

/// The unit of times in `/proc`: a hundredth of a second on every architecture of Linux that Rust supports.
const TICKS_PER_SECOND: f64 = 100.0;

/// The fields of `/proc/self/stat` after the name, from the third on.
struct Stat(Vec<f64>);

impl Stat {
    fn read() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // The name may contain spaces and parentheses.
        let (_, fields) = stat.rsplit_once(')')?;
        let fields = fields.split_whitespace();
        Some(Self(
            fields.map(|field| field.parse().unwrap_or(0.0)).collect(),
        ))
    }

    /// Returns the field that proc(5) numbers so.
    fn field(&self, number: usize) -> f64 {
        self.0.get(number - 3).copied().unwrap_or(0.0)
    }
}

/// Adds the figures of the process to the registry.
pub(super) fn register(registry: &mut Registry) {
    let Some(stat) = Stat::read() else {
        return;
    };
    let cpu = (stat.field(14) + stat.field(15)) / TICKS_PER_SECOND;
    registry.register_with_unit(
        "process_cpu",
        "Time that the process has run, in user and in system mode",
        Unit::Seconds,
        ConstCounter::new(cpu),
    );
    let mut gauge = |name, help, unit: Option<Unit>, value: f64| {
        let value = ConstGauge::new(value);
        match unit {
            Some(unit) => registry.register_with_unit(name, help, unit, value),
            None => registry.register(name, help, value),
        }
    };
    gauge(
        "process_resident_memory",
        "Resident memory of the process",
        Some(Unit::Bytes),
        resident_memory(),
    );
    gauge(
        "process_virtual_memory",
        "Virtual memory of the process",
        Some(Unit::Bytes),
        stat.field(23),
    );
    gauge(
        "process_start_time",
        "Start of the process, since 1970",
        Some(Unit::Seconds),
        boot_time() + stat.field(22) / TICKS_PER_SECOND,
    );
    gauge(
        "process_threads",
        "Threads of the process",
        None,
        stat.field(20),
    );
    let open = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    gauge(
        "process_open_fds",
        "Open files of the process",
        None,
        open as f64,
    );
    gauge(
        "process_max_fds",
        "The most open files of the process",
        None,
        max_files(),
    );
}

/// Returns the resident memory, in bytes.
fn resident_memory() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kibibytes.unwrap_or(0.0) * 1_024.0
}

/// Returns the start of the machine, in seconds since 1970.
fn boot_time() -> f64 {
    static BOOT: LazyLock<f64> = LazyLock::new(|| {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let line = stat.lines().find_map(|line| line.strip_prefix("btime "));
        line.and_then(|time| time.trim().parse().ok())
            .unwrap_or(0.0)
    });
    *BOOT
}

fn max_files() -> f64 {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    soft.unwrap_or(f64::INFINITY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_of_this_process_is_read() {
        let stat = Stat::read().expect("/proc/self/stat");
        assert!(stat.field(20) >= 1.0, "threads");
        assert!(resident_memory() > 1_000_000.0, "resident memory");
        let started = boot_time() + stat.field(22) / TICKS_PER_SECOND;
        let now = chrono::Utc::now().timestamp() as f64;
        assert!((now - started).abs() < 3_600.0, "{started} {now}");
        assert!(max_files() > 0.0);
    }
}
