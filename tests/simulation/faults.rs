//! Faults, and their end.

use syncline_protocol::Epoch;
use syncline_protocol::document::replica::FAILPOINT;
use syncline_protocol::document::{Input, LoadedDocument};
use syncline_protocol::wire::ClientMessage;
use syncline_protocol::wire::varint::{write_buffer, write_var_uint};

use crate::copy::YrsCopy;
use crate::server::{Blocking, State};
use crate::store::Stall;
use crate::world::{Event, World};

/// Stands for clients that send one poisonous update and then nothing.
const VANDAL: usize = usize::MAX;

impl World {
    pub(crate) fn fault(&mut self) {
        if !self.is_faulty {
            return;
        }
        let index = self.rng.index(self.clients.len());
        let link = self.clients[index].link;
        let is_up = self.server.state == State::Up;
        match (self.rng.below(26), link) {
            (0..5, Some(link)) => {
                let delay = self.rng.pick(&[100, 3_000, 60_000]);
                let delay = self.rng.between(0, delay);
                self.trace(|| {
                    format!("client {index} is cut off; the server notices in {delay} ms")
                });
                self.cut(link, delay);
            }
            (5..7, Some(link)) => {
                self.trace(|| format!("client {index} is cut off and does not notice"));
                self.links[link].cut();
                let delay = self.rng.between(0, 10_000);
                self.schedule(delay, Event::Leave(link));
                let delay = self.rng.between(0, 40_000);
                self.schedule(delay, Event::ClientNotices(link));
            }
            (7..13, Some(link)) => {
                let delay = self.rng.between(200, 12_000);
                self.trace(|| format!("client {index} reads nothing for {delay} ms"));
                self.links[link].stalled = true;
                self.schedule(delay, Event::Resume(link));
            }
            (13..15, _) if is_up => self.crash(),
            (15, _) if is_up => self.drain(),
            (16, _) if is_up && !self.store.has_failed => self.fail_store(),
            (17, _) => self.part(),
            (18..20, _) if is_up => self.vandalise(),
            (20..22, _) if is_up && self.store.stall == Stall::Writable => self.stall_store(),
            (22, _) if is_up => self.replace_history(),
            (23, _) if is_up && self.server.quarantine.is_none() => self.damage_record(),
            (24, _) if is_up => (0..7).for_each(|_| self.vandalise()),
            (25, _) => {
                self.part();
                let delay = self.rng.between(0, 300);
                self.schedule(delay, Event::WantRoom);
            }
            _ => {}
        }
        let delay = self.rng.between(1, 2 * self.fault_interval_ms);
        self.schedule(delay, Event::Fault);
    }

    fn part(&mut self) {
        self.trace(|| "all clients leave".into());
        for link in self.clients.iter().filter_map(|client| client.link).collect::<Vec<_>>() {
            self.cut(link, 50);
        }
    }

    /// Other documents need room, whether it has sessions or not.
    pub(crate) fn want_room(&mut self) {
        let Some(document) = &self.server.document else { return };
        self.stats.wanted += u64::from(document.session_count() == 0);
        self.trace(|| "the place of the document is wanted".into());
        self.handle(Input::MakeRoom);
    }

    /// A client sends a valid update that breaks the CRDT.
    fn vandalise(&mut self) {
        self.trace(|| "a vandal comes".into());
        self.stats.poisoned += 1;
        let link = self.new_link(VANDAL);
        self.links[link].is_cut = true;
        self.join(link);
        let client = (1 << 40) + self.rng.below(1 << 30);
        let message = ClientMessage::Update { update: poison(client).into() };
        let session = self.links[link].session;
        self.handle(Input::Received { session, message });
        self.schedule(5_000, Event::Leave(link));
    }

    pub(crate) fn drain(&mut self) {
        self.trace(|| "the server drains".into());
        self.server.state = State::Draining;
        if self.server.document.is_some() {
            self.handle(Input::Drain);
        } else {
            self.server.state = State::Down;
            self.schedule(500, Event::Start);
        }
    }

    pub(crate) fn fail_store(&mut self) {
        if self.rng.one_in(2) {
            self.trace(|| "the store refuses an update".into());
            self.store.fail(&mut self.rng);
            self.handle(Input::PersistFailed);
        } else {
            self.trace(|| "the store fails".into());
            self.store.stall = Stall::Final;
            self.schedule(20, Event::StoreNews);
        }
        let delay = self.rng.between(200, 4_000);
        self.schedule(delay, Event::Crash);
    }

    /// The disk is full, for a while.
    fn stall_store(&mut self) {
        self.trace(|| "the store stalls".into());
        self.stats.stalls += 1;
        self.store.stall = Stall::Stalled;
        let delay = self.rng.between(0, 60);
        self.schedule(delay, Event::StoreNews);
        let delay = self.rng.pick(&[100, 4_000, 15_000]);
        let delay = self.rng.between(1, delay);
        self.schedule(delay, Event::StoreResumes);
    }

    pub(crate) fn resume_store(&mut self) {
        if self.store.stall != Stall::Stalled {
            return;
        }
        self.trace(|| "the store resumes".into());
        self.store.stall = Stall::Writable;
        if !self.store.is_settled() {
            self.start_commit();
        }
        let delay = self.rng.between(0, 60);
        self.schedule(delay, Event::StoreNews);
    }

    /// While no client is connected, another history takes the place of the document's.
    fn replace_history(&mut self) {
        self.crash();
        self.stats.rewrites += 1;
        let held = self.clients.iter().filter(|client| client.epoch.is_some());
        self.store.replaced.extend(held.map(|client| client.writes_as));
        let state = if self.rng.one_in(2) {
            vec![0, 0]
        } else {
            let copy = YrsCopy::new((1 << 41) + self.stats.rewrites);
            copy.edit(&mut self.rng);
            copy.state()
        };
        let epoch = Epoch::new(self.store.durable.epoch.get() + 1);
        self.trace(|| format!("the history is replaced: {epoch}"));
        self.server.quarantine = None;
        self.store.rewrite(epoch, state.into());
    }

    /// While the server is down, a record becomes unreadable.
    fn damage_record(&mut self) {
        self.crash();
        let poison = poison((1 << 40) + self.rng.below(1 << 30));
        if self.store.damage(&mut self.rng, poison) {
            self.quarantine("a record was damaged".into());
        }
    }

    /// The document is opened read-only until it is released.
    pub(crate) fn quarantine(&mut self, cause: String) {
        self.trace(|| format!("quarantined: {cause}"));
        self.stats.quarantines += 1;
        self.server.quarantine = Some(cause);
        let delay = self.rng.between(500, 10_000);
        self.schedule(delay, Event::Release);
    }

    /// The operator accepts the loss, if there is one.
    pub(crate) fn release_quarantine(&mut self) {
        if self.server.quarantine.is_none() {
            return;
        }
        self.crash();
        self.trace(|| "the document is released".into());
        self.server.quarantine = None;
        if self.store.is_damaged {
            let (mut salvaged, _) =
                LoadedDocument::salvage(&self.store.durable, &self.server.limits);
            let state = salvaged.state().unwrap();
            self.store.rewrite(self.store.durable.epoch, state.into());
        }
    }

    /// The process dies: what is not on disk is gone, and so is every connection.
    pub(crate) fn crash(&mut self) {
        if self.server.state == State::Down {
            return;
        }
        self.trace(|| "the server crashes".into());
        self.stats.crashes += 1;
        if let Blocking::Snapshot(snapshot) = &self.server.blocking
            && self.rng.one_in(2)
        {
            self.store.write_snapshot(snapshot.clone());
        }
        self.store.crash(&mut self.rng);
        self.server.release();
        self.server.state = State::Down;
        for (_, link) in std::mem::take(&mut self.server.joined) {
            self.links[link].at_server = false;
            self.links[link].cut();
            // Some clients notice it by silence alone.
            if self.is_faulty && self.rng.one_in(6) {
                continue;
            }
            let delay = self.rng.between(0, 300);
            self.schedule(delay, Event::ClientNotices(link));
        }
        if !self.store.is_damaged {
            self.check_acknowledged();
        }
        let delay = self.rng.between(0, 1_500);
        self.schedule(delay, Event::Start);
    }
    /// Everything heals: the store, the network, the readers. Clients write no more.
    pub(crate) fn heal(&mut self) {
        self.trace(|| "everything heals".into());
        self.is_faulty = false;
        if self.store.has_failed || self.store.stall == Stall::Final {
            self.crash();
        }
        self.resume_store();
        self.release_quarantine();
        for link in 0..self.links.len() {
            self.links[link].stalled = false;
            self.links[link].window = usize::MAX;
            self.schedule(0, Event::Down(link));
            if self.links[link].is_cut {
                self.schedule(200, Event::Leave(link));
                self.schedule(200, Event::ClientNotices(link));
            }
        }
    }
}

/// A valid update that the CRDT refuses.
fn poison(client: u64) -> Vec<u8> {
    let mut update = vec![1, 1];
    write_var_uint(&mut update, client);
    update.extend([0, 0x04, 1]);
    write_buffer(&mut update, b"text");
    write_buffer(&mut update, FAILPOINT.as_bytes());
    update.push(0);
    update
}
