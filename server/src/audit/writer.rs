//! The queue of the audit log, and the thread that writes what is in it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::{error, info};

use crate::audit::{Entry, Event, line};
use crate::metrics::METRICS;

/// Events that wait at most. With names of 20 bytes they take 3 MB.
const QUEUE_LEN: usize = 8_192;

/// Refusals that are written in a second: a flood of them must neither fill the disk nor push out
/// what else happens. At 300 bytes a line they are 2.6 GB a day.
const REFUSALS: u32 = 100;

/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// What the log is written to: a file of that name, or standard output, past its buffer.
#[derive(Debug)]
pub(super) struct Target {
    path: Option<PathBuf>,
    file: File,
}

impl Target {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        if path.as_os_str() == "-" {
            let file = io::stdout().as_fd().try_clone_to_owned()?.into();
            return Ok(Self { path: None, file });
        }
        // One that is there keeps its mode: somebody may have let a collector read it.
        let file = File::options().append(true).create(true).mode(0o600).open(path)?;
        Ok(Self { path: Some(path.to_owned()), file })
    }

    /// Opens the file of that name again. Whether it is another one.
    fn reopen(&mut self) -> io::Result<bool> {
        let Some(path) = &self.path else { return Ok(false) };
        let new = Self::open(path)?.file;
        let identity = |file: &File| file.metadata().map(|it| (it.dev(), it.ino()));
        let is_other = identity(&new)? != identity(&self.file)?;
        self.file = new;
        Ok(is_other)
    }
}

/// What waits, and what the thread is to do.
#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Entry>,
    /// How many found no room since the last line that said so.
    lost: u64,
    refusals: Refusals,
    reopen: bool,
    phase: Phase,
}

/// The refusals of this second.
#[derive(Debug, Default)]
struct Refusals {
    began: Option<Instant>,
    count: u32,
    /// How many were left out since the last line that said so.
    left_out: u64,
}

impl Refusals {
    /// Whether one more is left out.
    fn leaves_out(&mut self, now: Instant) -> bool {
        if self.began.is_none_or(|began| now >= began + Duration::from_secs(1)) {
            (self.began, self.count) = (Some(now), 0);
        }
        self.count = self.count.saturating_add(1);
        let is_left_out = self.count > REFUSALS;
        self.left_out += u64::from(is_left_out);
        is_left_out
    }

    /// The line that says how many were left out.
    fn summary(&mut self) -> Option<Entry> {
        let count = std::mem::take(&mut self.left_out);
        (count > 0).then(|| Entry::new(Event::RefusalsLeftOut).count(count))
    }
}

/// How far the thread is from its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Running,
    /// It writes what waits, and tries nothing again.
    Stopping,
    Ended,
}

/// What is written next.
struct Batch {
    entries: VecDeque<Entry>,
    lost: u64,
    reopen: bool,
}

impl Shared {
    pub(super) fn push(&self, entry: Entry) {
        let mut state = self.state();
        if entry.event.is_refusal() {
            if state.refusals.leaves_out(Instant::now()) {
                return;
            }
            // In a new second, what the last one left out, if there is room for both.
            if state.waiting.len() + 1 < QUEUE_LEN {
                let summary = state.refusals.summary();
                state.waiting.extend(summary);
            }
        }
        if state.waiting.len() >= QUEUE_LEN || state.phase == Phase::Ended {
            state.lost += 1;
            METRICS.audit_lost.add(1);
            return;
        }
        state.waiting.push_back(entry);
        drop(state);
        self.changed.notify_all();
    }

    pub(super) fn reopen(&self) {
        self.state().reopen = true;
        self.changed.notify_all();
    }

    pub(super) fn stop(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut state = self.state();
        if state.phase == Phase::Running {
            state.phase = Phase::Stopping;
        }
        self.changed.notify_all();
        while state.phase != Phase::Ended {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                error!(
                    waiting = state.waiting.len(),
                    "The audit log could not be written in time."
                );
                return;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for something to do. None once that is over.
    fn take(&self) -> Option<Batch> {
        let mut state = self.state();
        while state.waiting.is_empty() && state.lost == 0 && !state.reopen {
            if state.phase != Phase::Running {
                let summary = state.refusals.summary()?;
                state.waiting.push_back(summary);
                break;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Some(Batch {
            entries: std::mem::take(&mut state.waiting),
            lost: std::mem::take(&mut state.lost),
            reopen: std::mem::take(&mut state.reopen),
        })
    }

    /// Nothing is written any more: neither so many lines, nor what waits.
    fn end(&self, unwritten: u64) {
        let mut state = self.state();
        state.phase = Phase::Ended;
        let lost = unwritten + std::mem::take(&mut state.waiting).len() as u64;
        drop(state);
        if lost > 0 {
            METRICS.audit_lost.add(lost);
            error!(lost, "The server stops, and these events are not in the audit log.");
        }
        self.changed.notify_all();
    }

    /// Waits before something is tried again. Whether it is too late for that.
    fn wait_stopping(&self, patience: Duration) -> bool {
        let runs = |state: &mut State| state.phase == Phase::Running;
        let waited = self.changed.wait_timeout_while(self.state(), patience, runs);
        waited.unwrap_or_else(PoisonError::into_inner).0.phase != Phase::Running
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every critical section leaves it whole at each point.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the thread.
pub(super) fn start(target: Target) -> io::Result<Arc<Shared>> {
    let shared = Arc::new(Shared::default());
    let writer = Writer { shared: Arc::clone(&shared), target, fails: false };
    thread::Builder::new().name("syncline-audit".to_owned()).spawn(move || writer.run())?;
    Ok(shared)
}

struct Writer {
    shared: Arc<Shared>,
    target: Target,
    fails: bool,
}

impl Writer {
    fn run(mut self) {
        while let Some(batch) = self.shared.take() {
            if batch.reopen {
                match self.target.reopen() {
                    Ok(_) => info!("The audit log goes on in the file of its name."),
                    // It goes on in the one that is open.
                    Err(error) => self.failed(&error),
                }
            }
            let lost = (batch.lost > 0).then(|| Entry::new(Event::EventsLost).count(batch.lost));
            let mut lines = String::new();
            for entry in batch.entries.iter().chain(&lost) {
                line::write(entry, &mut lines);
            }
            if let Err(unwritten) = self.write(lines.as_bytes()) {
                return self.shared.end(unwritten);
            }
            METRICS.audit_lines.add(lines_in(lines.as_bytes()));
        }
        self.shared.end(0);
    }

    /// Writes all of it, however long that takes.
    ///
    /// # Errors
    /// If the server stops before: how many lines are left.
    fn write(&mut self, lines: &[u8]) -> Result<(), u64> {
        let mut written = 0;
        while let Some(rest @ [_, ..]) = lines.get(written..) {
            match self.target.file.write(rest) {
                Ok(bytes @ 1..) => {
                    written += bytes;
                    if std::mem::take(&mut self.fails) {
                        info!("The audit log can be written again.");
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => {
                    let nothing = || io::Error::from(io::ErrorKind::WriteZero);
                    self.failed(&outcome.err().unwrap_or_else(nothing));
                    if self.shared.wait_stopping(RETRY) {
                        return Err(lines_in(rest));
                    }
                    // In another file the line that was begun begins anew.
                    if matches!(self.target.reopen(), Ok(true)) {
                        let done = lines.get(..written).unwrap_or_default();
                        written = done.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
                    }
                }
            }
        }
        Ok(())
    }

    /// Says so once, and counts it every time.
    fn failed(&mut self, error: &io::Error) {
        METRICS.audit_failures.add(1);
        if !std::mem::replace(&mut self.fails, true) {
            error!(%error, "The audit log cannot be written; it is tried again, and events wait.");
        }
    }
}

fn lines_in(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(batch: &Batch) -> Vec<Option<u64>> {
        batch.entries.iter().map(|entry| entry.session).collect()
    }

    #[test]
    fn audit_4_at_the_bound_events_are_lost_and_counted() {
        let shared = Shared::default();
        for number in 0..QUEUE_LEN as u64 + 3 {
            let entry = Entry { session: Some(number), ..Entry::new(Event::SessionOpened) };
            shared.push(entry);
        }
        let batch = shared.take().unwrap();
        assert_eq!((batch.entries.len(), batch.lost), (QUEUE_LEN, 3));
        assert_eq!(text(&batch)[..2], [Some(0), Some(1)]);
        shared.push(Entry::new(Event::SessionOpened));
        let batch = shared.take().unwrap();
        assert_eq!((batch.entries.len(), batch.lost), (1, 0));
    }

    #[test]
    fn audit_7_a_flood_of_refusals_is_summed_up_and_pushes_nothing_out() {
        let shared = Shared::default();
        for number in 0..20_000 {
            shared.push(Entry::new(Event::SessionRefused));
            if number % 10_000 == 0 {
                shared.push(Entry::new(Event::SessionOpened));
            }
        }
        let mut events = shared.take().unwrap().entries;
        shared.state().phase = Phase::Stopping;
        events.extend(shared.take().unwrap().entries);
        let of = |event| events.iter().filter(move |entry| entry.event == event);
        assert_eq!(of(Event::SessionOpened).count(), 2);
        let left_out: u64 = of(Event::RefusalsLeftOut).filter_map(|entry| entry.count).sum();
        assert_eq!(of(Event::SessionRefused).count() as u64 + left_out, 20_000);
        assert!(left_out > 10_000, "{left_out}");
        assert!(shared.take().is_none());
    }

    #[test]
    fn audit_5_a_line_that_was_begun_begins_anew_in_another_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let mut target = Target::open(&path).unwrap();
        assert!(!target.reopen().unwrap());
        std::fs::rename(&path, folder.path().join("audit.log.1")).unwrap();
        assert!(target.reopen().unwrap());
        target.file.write_all(b"{}\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"{}\n");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }
}
