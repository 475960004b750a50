//! What keeps the copies of a document equal: its replica, its position in the log, and the answers
//! made of both. The path of an update is in [`update`].

mod update;

use crate::document::backlog::{Deferred, LoadBacklog};
use crate::document::diff_cache::DiffCache;
use crate::document::limits::Limits;
use crate::document::log::{Log, Occasion};
use crate::document::replay::LoadedDocument;
use crate::document::replica::{ApplyError, Replica};
pub(crate) use crate::document::replication::update::{Origin, Verdict};
use crate::document::stored::Snapshot;
use crate::id::{Epoch, Sequence, SessionId};
use crate::time::Timestamp;
use crate::validate::StateVector;
use crate::wire::SyncMessage;

/// Rebuilds in one life of a document. More would mean that it cannot be repaired this way.
const REBUILDS_MAX: u8 = 5;

/// The content of a document, and what is under way for it.
#[derive(Debug)]
pub(crate) struct Replication {
    phase: Phase,
    diffs: DiffCache,
    log: Log,
    /// The history that was loaded last.
    epoch: Epoch,
    check: Check,
    rebuilds: u8,
}

#[derive(Debug)]
enum Phase {
    /// Arrivals are deferred, so nothing is answered from a blank document and nothing is loaded
    /// twice.
    Loading {
        backlog: LoadBacklog,
        is_requested: bool,
    },
    /// Loaded; each `Input::Continue` answers one deferred item.
    Answering {
        backlog: LoadBacklog,
        replica: Replica,
    },
    Ready(Replica),
    /// It could not be loaded, or its store refused an update. Never written from here on.
    Lost,
}

impl Phase {
    /// Replica of a loaded document. Of the field, so that others can be borrowed meanwhile.
    fn replica(&mut self) -> Option<&mut Replica> {
        match self {
            Self::Answering { replica, .. } | Self::Ready(replica) => Some(replica),
            Self::Loading { .. } | Self::Lost => None,
        }
    }
}

/// Whether the document is to be compared with its log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Check {
    #[default]
    Unasked,
    /// As soon as nothing is on its way to disk.
    Wanted,
    /// Handed to the caller. Until it answers, no snapshot takes the place of the log's updates.
    UnderWay,
}

/// The answer to a SyncStep1.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) update: SyncMessage,
    /// The declared state, without clients that are unknown here.
    pub(crate) base: StateVector,
    /// Whether the client has updates that are missing here.
    pub(crate) is_ahead: bool,
}

/// Why a loaded document is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogIsShorter;

/// The document was rebuilt as often as it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooManyRebuilds;

impl Default for Replication {
    fn default() -> Self {
        Self {
            phase: Phase::Loading { backlog: LoadBacklog::default(), is_requested: false },
            diffs: DiffCache::default(),
            log: Log::default(),
            epoch: Epoch::NONE,
            check: Check::default(),
            rebuilds: 0,
        }
    }
}

// Loading.
impl Replication {
    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The backlog of a document that is being loaded.
    pub(crate) fn loading(&mut self) -> Option<&mut LoadBacklog> {
        match &mut self.phase {
            Phase::Loading { backlog, .. } => Some(backlog),
            Phase::Answering { .. } | Phase::Ready(_) | Phase::Lost => None,
        }
    }

    /// The session of the next deferred item, once the document is loaded.
    pub(crate) fn next_deferred(&self) -> Option<SessionId> {
        match &self.phase {
            Phase::Answering { backlog, .. } => backlog.next_session(),
            Phase::Loading { .. } | Phase::Ready(_) | Phase::Lost => None,
        }
    }

    /// Takes the next deferred item, once the document is loaded.
    pub(crate) fn take_deferred(&mut self) -> Option<(SessionId, Deferred)> {
        let Phase::Answering { backlog, .. } = &mut self.phase else { return None };
        let next = backlog.pop();
        self.end_answering();
        next
    }

    fn end_answering(&mut self) {
        self.phase = match std::mem::replace(&mut self.phase, Phase::Lost) {
            Phase::Answering { backlog, replica } if backlog.is_empty() => Phase::Ready(replica),
            unchanged @ (Phase::Loading { .. }
            | Phase::Answering { .. }
            | Phase::Ready(_)
            | Phase::Lost) => unchanged,
        };
    }

    /// Drops the deferred items of a session that left.
    pub(crate) fn forget_deferred(&mut self, session: SessionId) {
        match &mut self.phase {
            Phase::Loading { backlog, .. } => backlog.forget(session),
            Phase::Answering { backlog, .. } => {
                backlog.forget(session);
                self.end_answering();
            }
            Phase::Ready(_) | Phase::Lost => {}
        }
    }

    /// Whether the stored log must be asked for now; true once for each load. Not while anything is on
    /// its way to disk.
    pub(crate) fn request_load(&mut self) -> bool {
        let is_possible = self.is_settled();
        match &mut self.phase {
            Phase::Loading { is_requested, .. } if is_possible => {
                !std::mem::replace(is_requested, true)
            }
            Phase::Loading { .. } | Phase::Answering { .. } | Phase::Ready(_) | Phase::Lost => {
                false
            }
        }
    }

    /// Takes the loaded document. Deferred items are answered from here on.
    ///
    /// # Errors
    /// If it ends before a position that was given out, and is not quarantined: the position would
    /// be given out again.
    pub(crate) fn loaded(&mut self, loaded: LoadedDocument) -> Result<(), LogIsShorter> {
        let Phase::Loading { backlog, .. } = &mut self.phase else { return Ok(()) };
        if loaded.quarantine.is_none() && loaded.last < self.log.last {
            return Err(LogIsShorter);
        }
        let backlog = std::mem::take(backlog);
        self.log = Log::loaded(&loaded);
        self.phase = Phase::Answering { backlog, replica: loaded.replica };
        self.end_answering();
        Ok(())
    }

    /// The history of the document that is about to be taken.
    pub(crate) fn set_epoch(&mut self, epoch: Epoch) {
        self.epoch = epoch;
    }

    /// Throws the replica away, so that the document is loaded again. Deferred items wait on, and
    /// sessions lose nothing: what was relayed is in the log.
    ///
    /// # Errors
    /// After [`REBUILDS_MAX`] rebuilds.
    pub(crate) fn rebuild(&mut self) -> Result<(), TooManyRebuilds> {
        if self.rebuilds == REBUILDS_MAX {
            return Err(TooManyRebuilds);
        }
        self.rebuilds += 1;
        self.log.abandon_snapshot();
        self.diffs.forget();
        let backlog = match std::mem::replace(&mut self.phase, Phase::Lost) {
            Phase::Loading { backlog, .. } | Phase::Answering { backlog, .. } => backlog,
            Phase::Ready(_) | Phase::Lost => LoadBacklog::default(),
        };
        self.phase = Phase::Loading { backlog, is_requested: false };
        Ok(())
    }

    /// Gives the document up. Nothing more is written.
    pub(crate) fn give_up(&mut self) {
        self.phase = Phase::Lost;
        self.diffs.forget();
        self.log.abandon_snapshot();
    }

    pub(crate) fn is_loaded(&self) -> bool {
        self.state_vector().is_some()
    }

    pub(crate) fn is_lost(&self) -> bool {
        matches!(self.phase, Phase::Lost)
    }
}

// State vectors, and what follows from them.
impl Replication {
    /// How much of each client's history is known; None while the document is not loaded.
    pub(crate) fn state_vector(&self) -> Option<&StateVector> {
        match &self.phase {
            Phase::Answering { replica, .. } | Phase::Ready(replica) => {
                Some(replica.state_vector())
            }
            Phase::Loading { .. } | Phase::Lost => None,
        }
    }

    /// The SyncStep1 that asks a client for what is missing here.
    pub(crate) fn question(&self) -> Option<SyncMessage> {
        self.state_vector().map(SyncMessage::step_1)
    }

    /// Answers a SyncStep1 that declares `base`.
    pub(crate) fn answer(
        &mut self,
        now: Timestamp,
        mut base: StateVector,
    ) -> Option<Result<Answer, ApplyError>> {
        let replica = self.phase.replica()?;
        let state_vector = replica.state_vector();
        let is_ahead = base.iter().any(|(client, clock)| state_vector.get(client) < Some(clock));
        // Only clocks of known clients can shrink a diff.
        base.retain(|client, _| state_vector.contains_key(client));
        let update = self.diffs.get(now, &base, replica);
        Some(update.map(|update| Answer { update, base, is_ahead }))
    }

    /// The diff that catches a session up from `base`.
    pub(crate) fn catch_up(
        &mut self,
        now: Timestamp,
        base: &StateVector,
    ) -> Option<Result<SyncMessage, ApplyError>> {
        let replica = self.phase.replica()?;
        Some(self.diffs.get(now, base, replica))
    }
}

// The log, its snapshots, and the comparison with it.
impl Replication {
    /// Everything accepted so far.
    pub(crate) fn last(&self) -> Sequence {
        self.log.last
    }

    /// What is known to be on disk.
    pub(crate) fn persisted(&self) -> Sequence {
        self.log.persisted
    }

    pub(crate) fn persisted_through(&mut self, through: Sequence) {
        self.log.persisted = self.log.persisted.max(through);
    }

    pub(crate) fn persist_failed(&mut self) {
        self.log.persist_failed();
    }

    /// Whether nothing is under way with the store.
    pub(crate) fn is_settled(&self) -> bool {
        self.log.is_settled() && !self.is_busy()
    }

    /// Whether every accepted update is on disk.
    pub(crate) fn is_persisted(&self) -> bool {
        self.log.is_settled()
    }

    /// Whether the store works on more than the document's updates. One thing at a time.
    pub(crate) fn is_busy(&self) -> bool {
        self.log.is_snapshotting() || self.check == Check::UnderWay
    }

    /// Drops a snapshot that was not handed out: the store takes nothing.
    pub(crate) fn abandon_snapshot(&mut self) {
        self.log.abandon_snapshot();
    }

    /// Encodes a snapshot if one is due.
    ///
    /// # Errors
    /// If the CRDT fails; the document must be rebuilt.
    pub(crate) fn encode_snapshot(
        &mut self,
        occasion: Occasion,
        limits: &Limits,
    ) -> Result<(), ApplyError> {
        let Some(replica) = self.phase.replica() else { return Ok(()) };
        if self.check != Check::UnderWay && self.log.snapshot_due(limits, occasion) {
            let state = replica.state()?;
            self.log.snapshot_encoded(state, replica.state_vector().clone());
        }
        Ok(())
    }

    /// The encoded snapshot, once every update in it is on disk.
    pub(crate) fn snapshot_ready(&mut self) -> Option<(Snapshot, StateVector)> {
        self.log.snapshot_ready()
    }

    pub(crate) fn snapshot_written(&mut self) {
        self.log.snapshot_written();
    }

    pub(crate) fn snapshot_failed(&mut self) {
        self.log.snapshot_failed();
    }

    /// Asks for a comparison with the log. One at a time: a request during a comparison is answered
    /// by it.
    pub(crate) fn request_check(&mut self) {
        if self.check == Check::Unasked {
            self.check = Check::Wanted;
        }
    }

    /// The state to be compared with the log, if that was asked for and everything is on disk.
    ///
    /// # Errors
    /// If the CRDT fails; the document must be rebuilt.
    pub(crate) fn start_check(&mut self) -> Result<Option<(Snapshot, StateVector)>, ApplyError> {
        let may_start =
            self.check == Check::Wanted && self.log.is_settled() && !self.log.is_snapshotting();
        let Some(replica) = self.phase.replica().filter(|_| may_start) else { return Ok(None) };
        let live = Snapshot { through: self.log.last, state: replica.state()?.into() };
        self.check = Check::UnderWay;
        Ok(Some((live, replica.state_vector().clone())))
    }

    pub(crate) fn check_ended(&mut self) {
        self.check = Check::Unasked;
    }

    /// When the cached diff expires.
    pub(crate) fn diff_expires_at(&self) -> Option<Timestamp> {
        self.diffs.expires_at()
    }

    pub(crate) fn sweep_diffs(&mut self, now: Timestamp) {
        self.diffs.sweep(now);
    }
}
