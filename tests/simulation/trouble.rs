//! Everything that goes wrong, and the end of it.

use syncline_protocol::document::Input;
use syncline_protocol::varint::{write_buffer, write_var_uint};
use syncline_protocol::wire::ClientMessage;

use crate::server::{Blocking, State};
use crate::world::{Event, World};

/// Stands for clients that send one poisonous update and then nothing.
const VANDAL: usize = usize::MAX;

impl World {
    pub(crate) fn trouble(&mut self) {
        if !self.is_troubled {
            return;
        }
        let index = self.rng.index(self.clients.len());
        let link = self.clients[index].link;
        let is_up = self.server.state == State::Up;
        match (self.rng.below(20), link) {
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
            (17, _) => {
                self.trace(|| "everybody leaves".into());
                for link in self.clients.iter().filter_map(|client| client.link).collect::<Vec<_>>()
                {
                    self.cut(link, 50);
                }
            }
            (18..20, _) if is_up => self.vandalise(),
            _ => {}
        }
        let delay = self.rng.between(1, 2 * self.trouble_ms);
        self.schedule(delay, Event::Trouble);
    }

    /// Somebody sends an update that passes the gate and breaks in the CRDT.
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
        self.trace(|| "the store fails".into());
        self.store.fail(&mut self.rng);
        self.handle(Input::PersistFailed);
        let delay = self.rng.between(200, 4_000);
        self.schedule(delay, Event::Crash);
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
        for (_, link) in std::mem::take(&mut self.server.seats) {
            self.links[link].at_server = false;
            self.links[link].cut();
            // Some clients learn of it by silence alone.
            if self.is_troubled && self.rng.one_in(6) {
                continue;
            }
            let delay = self.rng.between(0, 300);
            self.schedule(delay, Event::ClientNotices(link));
        }
        self.check_acknowledged();
        let delay = self.rng.between(0, 1_500);
        self.schedule(delay, Event::Start);
    }
    /// Everything heals: the store, the network, the readers. Nobody writes any more.
    pub(crate) fn heal(&mut self) {
        self.trace(|| "everything heals".into());
        self.is_troubled = false;
        if self.store.has_failed {
            self.crash();
        }
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

/// A block whose parent is a string. Only the CRDT finds out that this is no place for it.
fn poison(client: u64) -> Vec<u8> {
    let mut update = vec![1, 2];
    write_var_uint(&mut update, client);
    // Clock 0: a string in the root "text".
    update.extend([0, 0x04, 1]);
    write_buffer(&mut update, b"text");
    write_buffer(&mut update, b"x");
    // Clock 1: a string in that string.
    update.extend([0x04, 0]);
    write_var_uint(&mut update, client);
    update.push(0);
    write_buffer(&mut update, b"y");
    update.push(0);
    update
}
