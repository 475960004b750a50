//! The answer to `GET /metrics`: every metric by name, in Prometheus' text format.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::prometheus_text;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use tokio::time::Instant;
use warp::hyper::body::Bytes;

use crate::app::App;
use crate::metrics::count::{Count, Counts, Histogram, Label};
use crate::metrics::labels::State;
use crate::metrics::process::Process;
use crate::metrics::{METRICS, Metrics};
use crate::store::writer::StoreState;

/// What the answer says it is.
pub(crate) const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// For so long an answer is given again: whoever asks without pause takes no time from others.
const FRESH: Duration = Duration::from_secs(1);

/// The latest answer.
#[derive(Debug, Default)]
pub(crate) struct Exposition(Mutex<Option<(Instant, Bytes)>>);

impl Exposition {
    /// Everything, as it was within the last second.
    pub(crate) fn get(&self, app: &Arc<App>) -> Bytes {
        // Replaced as a whole.
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, text)) = &*latest
            && at.elapsed() < FRESH
        {
            return text.clone();
        }
        let text = Bytes::from(render(Gathered { app: Arc::clone(app) }));
        *latest = Some((Instant::now(), text.clone()));
        text
    }
}

fn render(gathered: Gathered) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(gathered));
    let mut text = String::new();
    // Writing to a String does not fail.
    _ = prometheus_text::encode(&mut text, &registry);
    text
}

/// Where everything is read.
#[derive(Debug)]
struct Gathered {
    app: Arc<App>,
}

impl Collector for Gathered {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        of_people(&mut families, &METRICS, &self.app)?;
        of_refusals(&mut families, &METRICS)?;
        of_updates(&mut families, &METRICS)?;
        of_documents(&mut families, &METRICS, &self.app)?;
        of_store(&mut families, &METRICS, &self.app)?;
        of_process(&mut families, &METRICS, &Process::read())
    }
}

fn of_people(to: &mut Families<'_>, metrics: &Metrics, app: &App) -> fmt::Result {
    to.info("syncline_build", "The version that runs", "version", env!("CARGO_PKG_VERSION"))?;
    to.gauge("syncline_connections_open", "Sockets", app.quotas.connections())?;
    to.counter("syncline_connections", "Sockets accepted", &metrics.connections)?;
    let open = app.sessions.by_dialect();
    to.gauges("syncline_sessions_open", "Participants in documents", &open)?;
    to.counters("syncline_sessions", "Sessions let in", &metrics.sessions)?;
    let help = "Sessions that their clients ended";
    to.counter("syncline_sessions_left", help, &metrics.sessions_left)
}

fn of_refusals(to: &mut Families<'_>, metrics: &Metrics) -> fmt::Result {
    let help = "Sessions that the server closed, by the word of the close";
    to.counters("syncline_sessions_closed", help, &metrics.closed)?;
    let help = "WebSockets that did not become sessions, by the word of the close";
    to.counters("syncline_sessions_refused", help, &metrics.refused)?;
    let help = "HTTP requests that were refused, by word";
    to.counters("syncline_requests_refused", help, &metrics.requests_refused)?;
    to.counters("syncline_limit_hits", "How often a limit was hit", &metrics.limits)?;
    let help = "Looks at the key set (JWKS)";
    to.counters("syncline_jwks_refreshes", help, &metrics.jwks)?;
    to.counter("syncline_tickets_issued", "Tickets issued", &metrics.tickets)?;
    to.counter("syncline_revocations", "Orders to revoke", &metrics.revocations)
}

fn of_updates(to: &mut Families<'_>, metrics: &Metrics) -> fmt::Result {
    to.counters("syncline_messages_received", "Messages to documents", &metrics.messages)?;
    let help = "Bytes of what was in those messages";
    to.counter("syncline_received_bytes", help, &metrics.received_bytes)?;
    let help = "Updates that documents have judged, by what became of them";
    to.counters("syncline_updates", help, &metrics.updates)?;
    let help = "Frames handed to the queues of sessions";
    to.counter("syncline_frames_sent", help, &metrics.frames_sent)?;
    to.counter("syncline_sent_bytes", "Bytes of those frames", &metrics.sent_bytes)
}

fn of_documents(to: &mut Families<'_>, metrics: &Metrics, app: &App) -> fmt::Result {
    let open = app.hub.document_count() as u64;
    to.gauge("syncline_documents_open", "Documents in memory", open)?;
    let unused = app.hub.idle_count() as u64;
    to.gauge("syncline_documents_unused", "Of those, the ones that nobody is in", unused)?;
    to.counters("syncline_loads", "Documents read from the store", &metrics.loads)?;
    let help = "Time to read and replay a document";
    to.histogram("syncline_load_duration_seconds", help, &metrics.load_time)?;
    to.counters("syncline_snapshots", "Documents written as a whole", &metrics.snapshots)?;
    let help = "Time to check and write a document as a whole";
    to.histogram("syncline_snapshot_duration_seconds", help, &metrics.snapshot_time)?;
    let help = "Comparisons of live documents with their log";
    to.counters("syncline_comparisons", help, &metrics.comparisons)?;
    let help = "Times that a document was put in quarantine";
    to.counter("syncline_quarantines", help, &metrics.quarantined)
}

fn of_store(to: &mut Families<'_>, metrics: &Metrics, app: &App) -> fmt::Result {
    let services = &app.services;
    let state = match &*services.writer.state().borrow() {
        StoreState::Writable => State::Writable,
        StoreState::Stalled(_) => State::Stalled,
        StoreState::Failed(_) => State::Failed,
    };
    let states = State::ALL.map(|each| (each, u64::from(each == state)));
    to.gauges("syncline_store_state", "1 for the state that the store is in", &states)?;
    let waiting = services.writer.waiting();
    to.gauge("syncline_store_waiting_updates", "Updates that wait", waiting.records)?;
    let help = "Bytes of updates that wait or are being stored, in steps of a KiB for each";
    to.gauge("syncline_store_waiting_bytes", help, waiting.bytes)?;
    let help = "Updates that one write to the store covered";
    to.histogram("syncline_store_batch_updates", help, &metrics.batches)?;
    let help = "Bytes of the updates that were stored";
    to.counter("syncline_stored_bytes", help, &metrics.stored_bytes)?;
    let help = "Time from when a document took an update to when it knew it to be on disk";
    to.histogram("syncline_durable_seconds", help, &metrics.durable)?;
    let help = "Time of one fdatasync of the journal";
    to.histogram("syncline_fdatasync_duration_seconds", help, &metrics.syncs)?;
    let size = services.store.size();
    to.gauge("syncline_journal_bytes", "Size of the journal", size.bytes)?;
    to.gauge("syncline_journal_segments", "Files of the journal", size.files)
}

fn of_process(to: &mut Families<'_>, metrics: &Metrics, process: &Process) -> fmt::Result {
    to.counter("syncline_audit_lines", "Lines of the audit log", &metrics.audit_lines)?;
    let help = "Events that are not in the audit log";
    to.counter("syncline_audit_lost", help, &metrics.audit_lost)?;
    let help = "Attempts to write the audit log that failed";
    to.counter("syncline_audit_failures", help, &metrics.audit_failures)?;
    to.counter("syncline_panics", "Panics", &metrics.panics)?;
    let help = "Time that processors spent, of users and of the system";
    to.seconds("process_cpu_seconds", help, process.cpu_seconds)?;
    to.gauge("process_open_fds", "Open descriptors", process.descriptors)?;
    to.gauge("process_max_fds", "Descriptors that may be open", process.descriptors_max)?;
    to.gauge("process_resident_memory_bytes", "Memory in use", process.resident_bytes)?;
    to.gauge("process_virtual_memory_bytes", "Memory in reach", process.virtual_bytes)?;
    to.gauge("process_threads", "Threads", process.threads)?;
    let help = "When the process started, in seconds since 1970";
    to.time("process_start_time_seconds", help, process.started_at)
}

/// Writes one metric after the other. The names of counters get `_total` at their end.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn begin<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        kind: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, kind)
    }

    fn counter(&mut self, name: &str, help: &str, count: &Count) -> fmt::Result {
        let mut family = self.begin(name, help, MetricType::Counter)?;
        family.encode_counter::<NoLabelSet, u64, u64>(&count.get(), None)
    }

    fn seconds(&mut self, name: &str, help: &str, seconds: f64) -> fmt::Result {
        let mut family = self.begin(name, help, MetricType::Counter)?;
        family.encode_counter::<NoLabelSet, f64, u64>(&seconds, None)
    }

    fn counters<L: Label, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        counts: &Counts<L, N>,
    ) -> fmt::Result {
        let mut family = self.begin(name, help, MetricType::Counter)?;
        for label in L::ALL {
            let labels = [(L::KEY, label.word())];
            let mut series = family.encode_family(&labels)?;
            series.encode_counter::<NoLabelSet, u64, u64>(&counts.get(*label), None)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.begin(name, help, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn time(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.begin(name, help, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn gauges<L: Label>(&mut self, name: &str, help: &str, values: &[(L, u64)]) -> fmt::Result {
        let mut family = self.begin(name, help, MetricType::Gauge)?;
        for (label, value) in values {
            let labels = [(L::KEY, label.word())];
            family.encode_family(&labels)?.encode_gauge(value)?;
        }
        Ok(())
    }

    fn info(&mut self, name: &str, help: &str, key: &str, value: &str) -> fmt::Result {
        let mut family = self.begin(name, help, MetricType::Info)?;
        family.encode_info(&[(key, value)])
    }

    fn histogram<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        sizes: &Histogram<N>,
    ) -> fmt::Result {
        let buckets = sizes.buckets();
        // Not counted apart from the buckets, so that the two always agree.
        let count = buckets.iter().map(|(_, count)| count).sum();
        let mut family = self.begin(name, help, MetricType::Histogram)?;
        family.encode_histogram::<NoLabelSet>(sizes.sum(), count, &buckets, None)
    }
}
