//! What the operating system knows of a process and its children.

use std::fs;
use std::time::Duration;

use rustix::thread::CpuSet;

/// The unit of times in `/proc/<pid>/stat`: `USER_HZ` is 100 on every Linux there is.
const TICK: Duration = Duration::from_millis(10);

/// CPU time of a process and all of its descendants, those that have ended included.
pub(crate) fn cpu(pid: u32) -> Duration {
    let ticks = tree(pid).into_iter().filter_map(stat).map(|stat| stat.ticks).sum::<u64>();
    TICK * ticks as u32
}

/// CPU time of this process, without the servers that it started.
pub(crate) fn own_cpu() -> Duration {
    TICK * stat(std::process::id()).map_or(0, |stat| stat.own_ticks) as u32
}

/// How long some cores have been at work, for whomever.
pub(crate) fn busy(cores: &[usize]) -> Duration {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let mut ticks = 0;
    for line in text.lines() {
        let mut fields = line.split_whitespace();
        let core = fields.next().and_then(|name| name.strip_prefix("cpu")?.parse().ok());
        if core.is_some_and(|core| cores.contains(&core)) {
            let times: Vec<u64> = fields.filter_map(|field| field.parse().ok()).collect();
            // All but idle and waiting for a disk; what a guest used is counted in the first two.
            ticks += times.iter().take(8).sum::<u64>() - times[3] - times[4];
        }
    }
    TICK * ticks as u32
}

/// Memory of a process and all of its descendants in bytes, shared pages in proportion.
pub(crate) fn memory(pid: u32) -> u64 {
    let kib = |pid: u32| {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = rollup.lines().find(|line| line.starts_with("Pss:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    tree(pid).into_iter().filter_map(kib).sum::<u64>() * 1_024
}

struct Stat {
    parent: u32,
    own_ticks: u64,
    /// With those of children that were waited for.
    ticks: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let own_ticks = number(11)? + number(12)?;
    let ticks = own_ticks + number(13)? + number(14)?;
    Some(Stat { parent: number(1)? as u32, own_ticks, ticks })
}

fn tree(root: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parents: Vec<(u32, u32)> =
        pids.filter_map(|pid| stat(pid).map(|stat| (pid, stat.parent))).collect();
    let mut tree = vec![root];
    let mut next = 0;
    while let Some(&pid) = tree.get(next) {
        tree.extend(parents.iter().filter(|(_, parent)| *parent == pid).map(|(pid, _)| *pid));
        next += 1;
    }
    tree
}

/// The cores this process may use.
pub(crate) fn cores() -> Vec<usize> {
    let allowed = rustix::thread::sched_getaffinity(None).unwrap_or_default();
    (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core)).collect()
}

/// Confines this thread, and the processes it starts from now on, to some cores.
pub(crate) fn pin(cores: &[usize]) {
    let mut set = CpuSet::new();
    cores.iter().for_each(|&core| set.set(core));
    if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
        eprintln!("cannot use the cores {cores:?}: {error}");
    }
}

/// Allows this process and the servers it starts as many descriptors as the system lets them have.
pub(crate) fn raise_descriptors() -> u64 {
    rlimit::increase_nofile_limit(u64::MAX).unwrap_or_default()
}
