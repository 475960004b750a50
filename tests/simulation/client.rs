//! A client as y-websocket 3.1 behaves, and the part of `syncline.v1` that it may speak on top.

use bytes::Bytes;
use syncline_protocol::validate::{Budget, walk_presence};
use syncline_protocol::wire::Dialect;
use syncline_protocol::wire::varint::{Reader, write_buffer, write_var_uint};
use syncline_protocol::{Access, Epoch};

use crate::awareness::Awareness;
use crate::copy::Replica;
use crate::random::Rng;

/// How long y-websocket waits for a message before it connects anew.
const SILENCE_MS: u64 = 30_000;

#[expect(clippy::struct_excessive_bools, reason = "independent facts, not a state")]
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) copy: Replica,
    pub(crate) awareness: Awareness,
    /// What its user last set, if it is not hidden.
    pub(crate) intended: Option<Bytes>,
    pub(crate) access: Access,
    pub(crate) dialect: Dialect,
    /// Whether it is a reader that tries to write. Its own copy then differs from all others.
    pub(crate) scribbles: bool,
    /// Whether it connected while it hid. Nothing then tells the server who it is, and it hears of
    /// itself from the session it had before, as long as that lingers.
    pub(crate) came_hidden: bool,
    pub(crate) link: Option<usize>,
    pub(crate) open: bool,
    pub(crate) synced: bool,
    pub(crate) attempts: u32,
    /// The epoch in this connection's Welcome.
    pub(crate) received_epoch: Option<Epoch>,
    /// The history that its copy belongs to, once it holds something of it.
    pub(crate) epoch: Option<Epoch>,
    /// The id under which its copy writes.
    pub(crate) writes_as: u64,
    pub(crate) heard_at: u64,
    pub(crate) refused: u64,
    sets: u64,
}

impl Client {
    pub(crate) fn new(now: u64, id: u64, copy: Replica, access: Access, dialect: Dialect) -> Self {
        let awareness = Awareness::new(now, id);
        let intended = awareness.states.get(&id).cloned();
        Self {
            copy,
            awareness,
            intended,
            access,
            dialect,
            scribbles: false,
            came_hidden: false,
            link: None,
            open: false,
            synced: false,
            attempts: 0,
            received_epoch: None,
            epoch: None,
            writes_as: id,
            heard_at: 0,
            refused: 0,
            sets: 0,
        }
    }

    pub(crate) fn opened(&mut self, now: u64, out: &mut Vec<Bytes>) {
        self.open = true;
        self.heard_at = now;
        out.push(sync_frame(0, &self.copy.state_vector()));
        if self.awareness.is_set() {
            out.push(self.presence(&[self.awareness.own]));
        } else {
            self.came_hidden = true;
        }
    }

    /// The connection is gone. Returns how long it waits before the next one.
    pub(crate) fn closed(&mut self) -> u64 {
        self.link = None;
        if self.open {
            self.awareness.forget_others();
        }
        self.open = false;
        self.synced = false;
        self.received_epoch = None;
        self.attempts += 1;
        (100_u64 << self.attempts.min(10)).min(2_500)
    }

    pub(crate) fn edit(&mut self, rng: &mut Rng, out: &mut Vec<Bytes>) {
        let updates = match self.scribbles {
            true => self.copy.scribble(),
            false => self.copy.edit(rng),
        };
        self.send_updates(updates, out);
        if rng.one_in(6) {
            // Some editors send what changes nothing. It must not vouch for what came before it.
            self.send_updates(vec![vec![0, 0]], out);
        }
    }

    pub(crate) fn set_presence(&mut self, now: u64, rng: &mut Rng, out: &mut Vec<Bytes>) {
        self.sets += 1;
        let hides = self.awareness.is_set() && rng.one_in(8);
        self.intended = (!hides).then(|| format!("{{\"n\":{}}}", self.sets).into());
        self.awareness.set_own(now, self.intended.clone());
        if self.open {
            out.push(self.presence(&[self.awareness.own]));
        }
    }

    /// Both intervals of 3 s. Returns whether it gives the connection up.
    pub(crate) fn tick(&mut self, now: u64, out: &mut Vec<Bytes>) -> bool {
        for changed in self.awareness.check(now) {
            if self.open {
                out.push(self.presence(&changed));
            }
        }
        self.open && now - self.heard_at > SILENCE_MS
    }

    /// Handles a frame as the dialect demands; what it cannot read is a fault of the server.
    pub(crate) fn received(&mut self, now: u64, frame: &Bytes, out: &mut Vec<Bytes>) {
        self.heard_at = now;
        let mut reader = Reader::new(frame);
        match reader.var_uint().unwrap() {
            0 => self.received_sync(&mut reader, out),
            1 => {
                let payload = Bytes::copy_from_slice(reader.buffer().unwrap());
                let entries = walk_presence(&payload, &Budget::LIVE).unwrap();
                let changed = self.awareness.apply(now, &entries);
                if !changed.is_empty() {
                    out.push(self.presence(&changed));
                }
            }
            2 => {
                assert_eq!(reader.var_uint().unwrap(), 0, "PermissionDenied is the only kind");
                let reason = reader.string().unwrap();
                self.check_refusal(reason.split(':').next().unwrap());
            }
            64 => {
                assert_eq!(self.dialect, Dialect::SynclineV1, "Welcome to a stock client");
                reader.var_uint().unwrap();
                self.received_epoch = reader.string().unwrap().parse().ok();
                assert!((0..7).all(|_| reader.var_uint().is_ok()));
            }
            65 => {
                assert_eq!(self.dialect, Dialect::SynclineV1, "Saved to a stock client");
                reader.var_uint().unwrap();
            }
            66 => {
                assert_eq!(self.dialect, Dialect::SynclineV1, "Refused to a stock client");
                reader.var_uint().unwrap();
                self.check_refusal(reader.string().unwrap());
                reader.string().unwrap();
            }
            kind => panic!("a server does not send message type {kind}"),
        }
        assert!(reader.is_empty(), "one message per frame");
    }

    fn check_refusal(&mut self, word: &str) {
        self.refused += 1;
        match word {
            "forbidden_write" => assert!(!self.access.may_write(), "a writer was refused"),
            "store_unavailable" | "document_quarantined" => {
                assert!(self.access.may_write(), "a reader was refused for a wrong reason");
            }
            word => panic!("nothing is refused for {word}"),
        }
    }

    /// Its copy belongs to a history that is no more.
    pub(crate) fn restart(&mut self, id: u64) {
        self.copy = self.copy.fresh(id);
        self.writes_as = id;
        self.epoch = None;
    }

    fn received_sync(&mut self, reader: &mut Reader<'_>, out: &mut Vec<Bytes>) {
        let kind = reader.var_uint().unwrap();
        let payload = reader.buffer().unwrap();
        match kind {
            0 => {
                assert!(self.access.may_write(), "a reader was asked for updates");
                out.push(sync_frame(1, &self.copy.diff(payload)));
            }
            1 | 2 => {
                let updates = self.copy.apply(payload);
                self.send_updates(updates, out);
                if kind == 1 {
                    self.synced = true;
                    self.attempts = 0;
                }
            }
            kind => panic!("sync message {kind} does not exist"),
        }
    }

    fn send_updates(&self, updates: Vec<Vec<u8>>, out: &mut Vec<Bytes>) {
        if self.open {
            out.extend(updates.iter().map(|update| sync_frame(2, update)));
        }
    }

    fn presence(&self, clients: &[u64]) -> Bytes {
        let mut frame = vec![1];
        write_buffer(&mut frame, &self.awareness.encode(clients));
        frame.into()
    }
}

fn sync_frame(kind: u64, payload: &[u8]) -> Bytes {
    let mut frame = vec![0];
    write_var_uint(&mut frame, kind);
    write_buffer(&mut frame, payload);
    frame.into()
}

/// The update inside a SyncStep2 or Update frame.
pub(crate) fn update_in(frame: &Bytes) -> Option<Bytes> {
    let mut reader = Reader::new(frame);
    if reader.var_uint() != Ok(0) || !matches!(reader.var_uint(), Ok(1 | 2)) {
        return None;
    }
    reader.buffer().ok().map(Bytes::copy_from_slice)
}
