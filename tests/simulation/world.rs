//! The clock, the clients, and the faults between them and the server.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use syncline_protocol::document::Input;
use syncline_protocol::wire::Dialect;
use syncline_protocol::wire::varint::Reader;
use syncline_protocol::{Access, CloseCode, SessionId};

use crate::client::{Client, update_in};
use crate::copy::{Replica, YjsCopy, YrsCopy};
use crate::network::{Link, Packet, Pipe, SendQueue};
use crate::oracle::Oracle;
use crate::random::Rng;
use crate::server::{Server, State};
use crate::stats::Stats;
use crate::store::{Stall, Store};

/// 2026-06-01, so that published presence clocks are as large as they will be.
const START_MS: u64 = 1_780_272_000_000;

/// Published clocks count eighths of a second. A client that moves more often runs ahead of
/// them, and a client that reconnects meanwhile sees it only at its next renewal.
const PRESENCE_MS: u64 = 125;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    Edit(usize),
    Presence(usize),
    Tick(usize),
    Connect(usize),
    Accept(usize),
    Open(usize),
    Up(usize),
    Down(usize),
    Flush(usize),
    Drained(usize),
    Leave(usize),
    KeepAlive(usize),
    ClientNotices(usize),
    Resume(usize),
    Fault,
    Commit(u64),
    Loaded(u64),
    SnapshotDone(u64),
    Compared(u64),
    Check,
    StoreNews,
    StoreResumes,
    Release,
    WantRoom,
    Deadline,
    Crash,
    Start,
}

#[expect(clippy::struct_excessive_bools, reason = "independent facts, not a state")]
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) rng: Rng,
    pub(crate) clients: Vec<Client>,
    pub(crate) links: Vec<Link>,
    pub(crate) server: Server,
    pub(crate) store: Store,
    pub(crate) stats: Stats,
    /// Whether faults still happen, and people still write.
    pub(crate) is_faulty: bool,
    /// When people stop moving.
    pub(crate) presence_until: u64,
    events: BTreeMap<(u64, u64), Event>,
    scheduled: u64,
    is_traced: bool,
    latency_ms: u64,
    outbox_bytes: usize,
    pub(crate) fault_interval_ms: u64,
    edit_ms: u64,
    /// One `Saved` in so many is followed by a crash.
    crash_on_saved: u64,
    crash_pending: bool,
    begun_anew: u64,
}

impl World {
    pub(crate) fn new(seed: u64, oracle: Option<Rc<RefCell<Oracle>>>, is_traced: bool) -> Self {
        let mut rng = Rng::new(seed);
        let server = Server::new(&mut rng);
        let calm = rng.one_in(6);
        let mut world = Self {
            now: START_MS,
            latency_ms: rng.pick(&[5, 40, 150]),
            outbox_bytes: rng.pick(&[200, 800, 4_000, 1 << 20]),
            fault_interval_ms: if calm { u64::MAX >> 1 } else { rng.between(500, 6_000) },
            edit_ms: rng.between(100, 2_000),
            crash_on_saved: rng.pick(&[8, 60, u64::MAX]),
            crash_pending: false,
            clients: Vec::new(),
            links: Vec::new(),
            server,
            store: Store::new(),
            begun_anew: 0,
            stats: Stats::default(),
            is_faulty: true,
            presence_until: 0,
            events: BTreeMap::new(),
            scheduled: 0,
            is_traced,
            rng,
        };
        world.invite(oracle);
        world
    }

    fn invite(&mut self, mut oracle: Option<Rc<RefCell<Oracle>>>) {
        let count = self.rng.between(2, 6);
        for index in 0..count {
            let id = 1 + index + self.rng.pick(&[0, 1 << 20, 1 << 31, 1 << 52]);
            let copy = match oracle.take() {
                Some(oracle) => {
                    self.stats.yjs += 1;
                    Replica::Yjs(YjsCopy::new(oracle, id & 0xffff_ffff))
                }
                None => Replica::Yrs(YrsCopy::new(id)),
            };
            let id = if matches!(copy, Replica::Yjs(_)) { id & 0xffff_ffff } else { id };
            // The first may write, so that there is something to see.
            let reads = index > 0 && self.rng.one_in(5);
            let access = if reads { Access::Read } else { Access::Write };
            let dialect = self.rng.pick(&[Dialect::YWebsocket, Dialect::SynclineV1]);
            let mut client = Client::new(self.now, id, copy, access, dialect);
            client.scribbles = reads && self.rng.one_in(2);
            if self.rng.one_in(8) {
                client.awareness.set_own(self.now, None);
                client.intended = None;
            }
            self.clients.push(client);
        }
        for index in 0..self.clients.len() {
            let delay = self.rng.between(0, 3_000);
            self.schedule(delay, Event::Connect(index));
            self.schedule(delay, Event::Tick(index));
            self.schedule(delay + self.edit_ms, Event::Edit(index));
            self.schedule(delay + 500, Event::Presence(index));
        }
        self.schedule(self.fault_interval_ms, Event::Fault);
        self.schedule(1_000, Event::Check);
    }

    pub(crate) fn schedule(&mut self, delay: u64, event: Event) {
        self.schedule_at(self.now + delay, event);
    }

    pub(crate) fn schedule_at(&mut self, at: u64, event: Event) {
        self.scheduled += 1;
        self.events.insert((at, self.scheduled), event);
    }

    pub(crate) fn latency(&mut self) -> u64 {
        self.rng.between(0, self.latency_ms)
    }

    #[expect(clippy::print_stdout, reason = "a replay is read by a person")]
    pub(crate) fn trace(&self, line: impl FnOnce() -> String) {
        if self.is_traced {
            println!("{:>8} ms  {}", self.now - START_MS, line());
        }
    }

    /// Lives through `ms` milliseconds.
    pub(crate) fn run(&mut self, ms: u64) {
        let end = self.now + ms;
        while let Some(entry) = self.events.first_entry()
            && entry.key().0 <= end
        {
            let ((at, _), event) = entry.remove_entry();
            self.now = at;
            self.dispatch(event);
            if std::mem::take(&mut self.crash_pending) {
                self.crash();
            }
        }
        self.now = end;
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::Edit(client) => self.edit(client),
            Event::Presence(client) => self.set_presence(client),
            Event::Tick(client) => self.tick(client),
            Event::Connect(client) => self.connect(client),
            Event::Accept(link) => self.join(link),
            Event::Open(link) => self.open(link),
            Event::Up(link) => self.up(link),
            Event::Down(link) => self.down(link),
            Event::Flush(link) => self.flush(link),
            Event::Drained(link) => self.drained(link),
            Event::Leave(link) => self.leave(link),
            Event::KeepAlive(link) => self.keep_alive(link),
            Event::ClientNotices(link) => self.client_closed(link),
            Event::Resume(link) => {
                self.links[link].stalled = false;
                self.down(link);
            }
            Event::Fault => self.fault(),
            Event::Commit(life) => self.commit(life),
            Event::Loaded(life) => self.loaded(life),
            Event::SnapshotDone(life) => self.snapshot_done(life),
            Event::Compared(life) => self.compared(life),
            Event::Check if !self.is_faulty => {}
            Event::Check => {
                self.handle(Input::Check);
                let delay = self.rng.between(500, 8_000);
                self.schedule(delay, Event::Check);
            }
            Event::StoreNews => self.send_store_news(),
            Event::StoreResumes => self.resume_store(),
            Event::Release => self.release_quarantine(),
            Event::WantRoom => self.want_room(),
            Event::Deadline => self.deadline(),
            Event::Crash if self.store.has_failed || self.store.stall == Stall::Final => {
                self.crash();
            }
            Event::Crash => {}
            Event::Start => {
                self.server.state = State::Up;
                self.store.has_failed = false;
            }
        }
    }

    fn edit(&mut self, index: usize) {
        if !self.is_faulty {
            return;
        }
        let client = &mut self.clients[index];
        if client.access.may_write() || client.scribbles {
            let mut out = Vec::new();
            client.edit(&mut self.rng, &mut out);
            self.stats.edits += 1;
            self.send_up(index, out);
        }
        let delay = self.rng.between(1, 2 * self.edit_ms);
        self.schedule(delay, Event::Edit(index));
    }

    fn set_presence(&mut self, index: usize) {
        if self.now >= self.presence_until {
            return;
        }
        // Moves that wait for a load are published at once, and so ahead of the clock.
        if self.clients[index].synced {
            let mut out = Vec::new();
            self.clients[index].set_presence(self.now, &mut self.rng, &mut out);
            self.send_up(index, out);
        }
        let delay = self.rng.pick(&[100, 2_000, 20_000]);
        let delay = self.rng.between(PRESENCE_MS, PRESENCE_MS + delay);
        self.schedule(delay, Event::Presence(index));
    }

    fn tick(&mut self, index: usize) {
        let mut out = Vec::new();
        let gives_up = self.clients[index].tick(self.now, &mut out);
        self.send_up(index, out);
        if gives_up && let Some(link) = self.clients[index].link {
            self.trace(|| format!("client {index} hears nothing and connects anew"));
            self.cut(link, 0);
        }
        self.schedule(3_000, Event::Tick(index));
    }

    fn connect(&mut self, index: usize) {
        if self.clients[index].link.is_some() {
            return;
        }
        let link = self.new_link(index);
        self.clients[index].link = Some(link);
        let accepted = self.latency();
        let opened = accepted + self.latency();
        if self.server.state != State::Up {
            return self.schedule(opened, Event::ClientNotices(link));
        }
        // Nothing arrives before the handshake has ended.
        self.links[link].down.opens(self.now + opened);
        self.schedule(accepted, Event::Accept(link));
        self.schedule(opened, Event::Open(link));
    }

    pub(crate) fn new_link(&mut self, client: usize) -> usize {
        let link = Link {
            client,
            session: SessionId::new(self.links.len() as u64 + 1),
            up: Pipe::default(),
            down: Pipe::default(),
            send_queue: SendQueue::new(self.outbox_bytes),
            unsent: [].into(),
            window: self.rng.pick(&[100, 1_000, 100_000]),
            stalled: false,
            is_cut: false,
            at_server: false,
            sent_at: self.now,
            updates: Vec::new(),
            saved: 0,
            skipped: false,
            epoch: self.store.durable.epoch,
        };
        self.links.push(link);
        self.links.len() - 1
    }

    pub(crate) fn rights(&self, client: usize) -> (Access, Dialect) {
        self.clients
            .get(client)
            .map_or((Access::Write, Dialect::SynclineV1), |client| (client.access, client.dialect))
    }

    fn open(&mut self, link: usize) {
        let index = self.links[link].client;
        if self.clients[index].link != Some(link) {
            return;
        }
        let session = self.links[link].session;
        self.trace(|| format!("client {index} opens session {session}"));
        let mut out = Vec::new();
        self.clients[index].opened(self.now, &mut out);
        self.send_up(index, out);
    }

    fn send_up(&mut self, index: usize, frames: Vec<Bytes>) {
        let Some(link) = self.clients[index].link else { return };
        for frame in frames {
            let at = self.now + self.latency();
            let pipe = &mut self.links[link];
            pipe.updates.extend(update_in(&frame));
            let at = pipe.up.send(at, Packet::Frame(frame));
            if pipe.is_cut {
                pipe.cut();
            } else {
                self.schedule_at(at, Event::Up(link));
            }
        }
    }

    fn up(&mut self, link: usize) {
        while let Some(Packet::Frame(frame)) = self.links[link].up.arrived(self.now) {
            self.frame_received(link, &frame);
        }
    }

    fn down(&mut self, link: usize) {
        while !self.links[link].stalled
            && let Some(packet) = self.links[link].down.arrived(self.now)
        {
            self.schedule(0, Event::Flush(link));
            let index = self.links[link].client;
            match packet {
                _ if self.clients[index].link != Some(link) => {}
                Packet::Close(code) => {
                    if code == CloseCode::EpochMismatch {
                        self.restart_client(index);
                    } else {
                        let is_final = (4_400..4_500).contains(&code.number());
                        assert!(!is_final, "{code} is for good");
                    }
                    self.client_closed(link);
                }
                Packet::Frame(frame) => {
                    let mut out = Vec::new();
                    let epoch = self.links[link].epoch;
                    let client = &mut self.clients[index];
                    client.received(self.now, &frame, &mut out);
                    assert!(
                        client.received_epoch.is_none_or(|received| received == epoch),
                        "another history"
                    );
                    // A stock client's page asks the server for it.
                    if client.synced {
                        client.epoch = Some(epoch);
                    }
                    self.send_up(index, out);
                }
            }
        }
    }

    fn restart_client(&mut self, index: usize) {
        self.begun_anew += 1;
        self.stats.estranged += 1;
        let id = (1 << 22) + self.begun_anew;
        self.trace(|| format!("client {index} begins anew as {id}"));
        self.clients[index].restart(id);
    }

    pub(crate) fn client_closed(&mut self, link: usize) {
        let Some(client) = self.clients.get_mut(self.links[link].client) else { return };
        if client.link == Some(link) {
            let delay = client.closed();
            let index = self.links[link].client;
            self.schedule(delay, Event::Connect(index));
        }
    }

    /// Cuts a connection: the client knows at once, the server after a while.
    pub(crate) fn cut(&mut self, link: usize, server_delay: u64) {
        self.links[link].cut();
        self.client_closed(link);
        self.schedule(server_delay, Event::Leave(link));
    }

    pub(crate) fn note_saved(&mut self, link: usize, frame: &Bytes) {
        let mut reader = Reader::new(frame);
        if reader.var_uint() != Ok(65) {
            return;
        }
        let through = usize::try_from(reader.var_uint().unwrap()).unwrap();
        let link = &mut self.links[link];
        // The vandal's frames are not recorded.
        let saved = link.updates.get(link.saved..through).unwrap_or_default();
        assert!(through > link.saved || link.skipped, "the watermark only rises");
        self.store.acknowledged.extend_from_slice(saved);
        link.saved = link.saved.max(through);
        self.stats.saved += 1;
        if self.is_faulty && self.rng.one_in(self.crash_on_saved) {
            self.crash_pending = true;
        }
    }
}
