//! What the system says of this process, under the names that every Prometheus client uses.

use std::fs;
use std::os::unix::fs::MetadataExt;

/// What the system says at this moment. Where it says nothing, there is nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Process {
    pub(super) cpu_seconds: f64,
    pub(super) threads: u64,
    pub(super) virtual_bytes: u64,
    pub(super) resident_bytes: u64,
    pub(super) descriptors: u64,
    pub(super) descriptors_max: u64,
    pub(super) started_at: f64,
}

impl Process {
    /// Reads a few small files of `/proc`.
    pub(super) fn read() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let (descriptors_max, _) = rlimit::getrlimit(rlimit::Resource::NOFILE).unwrap_or_default();
        Self { descriptors: descriptors(), descriptors_max, ..Self::of(&stat) }
    }

    /// The fields of proc_pid_stat(5). The name in front of them may hold anything.
    fn of(stat: &str) -> Self {
        let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split(' ').collect();
        // The first of these is field 2, and empty.
        let field = |number: usize| -> u64 {
            fields.get(number - 2).and_then(|field| field.parse().ok()).unwrap_or(0)
        };
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let booted_at = fs::read_to_string("/proc/stat").ok().and_then(|stat| {
            stat.lines().find_map(|line| line.strip_prefix("btime ")?.parse::<f64>().ok())
        });
        Self {
            cpu_seconds: (field(14) + field(15)) as f64 / ticks,
            threads: field(20),
            started_at: booted_at.unwrap_or(0.0) + field(22) as f64 / ticks,
            virtual_bytes: field(23),
            resident_bytes: field(24) * rustix::param::page_size() as u64,
            ..Self::default()
        }
    }
}

/// Open descriptors. Linux tells their number as the size of the folder since 6.2; before that they
/// have to be listed, which takes some 5 ms for 20,000.
fn descriptors() -> u64 {
    let told = fs::metadata("/proc/self/fd").map_or(0, |folder| folder.size());
    if told > 0 {
        return told;
    }
    let listed = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    // Without the one that the list is read through.
    listed.saturating_sub(1) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metric_6_a_process_is_read_whatever_its_name() {
        let stat = "7 (a) 1 (b) S 1 7 7 0 -1 4194560 9 0 0 0 150 50 0 0 20 0 12 0 0 4096 3 9 9";
        let process = Process::of(stat);
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(process.cpu_seconds, 200.0 / ticks);
        assert_eq!((process.threads, process.virtual_bytes), (12, 4_096));
        assert_eq!(process.resident_bytes, 3 * rustix::param::page_size() as u64);
        let this = Process::read();
        assert!(this.descriptors > 2 && this.descriptors <= this.descriptors_max, "{this:?}");
        assert!(this.resident_bytes > 0 && this.started_at > 1e9, "{this:?}");
    }
}
