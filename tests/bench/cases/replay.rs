//! Recorded sessions, keystroke by keystroke, to somebody who watches.

use std::rc::Rc;
use std::time::{Duration, Instant};

use syncline_tests::client::doc_of;
use syncline_tests::trace;
use yrs::updates::decoder::Decode;
use yrs::{ClientID, GetString, ReadTxn, StateVector, Text, Transact, Update};

use super::{CaseName, Measurement, Scale};
use crate::failure::Failure;
use crate::lab::Lab;
use crate::load::Load;
use crate::results::Figures;
use crate::server::{Kind, Server};
use crate::socket::{Receive, Target};
use crate::update::{FIRST_CLIENT, walk};
use crate::wire::Message;

pub(crate) const PAPER: &str = "automerge-paper";
pub(crate) const SESSIONS: [&str; 3] = [PAPER, "sveltecomponent", "friendsforever_flat"];

/// Keystrokes that the watcher has not seen yet, at most: fewer than any server drops.
const UNDER_WAY: usize = 256;

/// Without anything new for so long, the rest is lost.
const STALLED: Duration = Duration::from_secs(10);

/// A recorded session as one update for each edit.
#[derive(Debug)]
pub(crate) struct Session {
    updates: Vec<Vec<u8>>,
    /// For each update, the writer's clock after it.
    clocks: Vec<u64>,
    text: String,
    /// All of it, as one update.
    pub(crate) whole: Rc<[u8]>,
}

impl Session {
    /// Types a session into a document. Its last update adds a mark that tells its end.
    pub(crate) fn load(name: &str, scale: Scale) -> Self {
        let trace = trace::load(name);
        let edits = edits(scale);
        let doc = doc_of(FIRST_CLIENT);
        let text = doc.get_or_insert_text("t");
        let (mut updates, mut clocks) = (Vec::new(), Vec::new());
        let mark = [(u32::MAX, 0, "\u{1}".to_owned())];
        let patches = trace.txns.iter().take(edits).map(|txn| &txn.patches[..]);
        for patches in patches.chain([&mark[..]]) {
            let mut txn = doc.transact_mut();
            for (at, deleted, inserted) in patches {
                let at = text.len(&txn).min(*at);
                text.remove_range(&mut txn, at, *deleted);
                text.insert(&mut txn, at, inserted);
            }
            updates.push(txn.encode_update_v1());
            clocks.push(u64::from(txn.state_vector().get(&ClientID::new(FIRST_CLIENT))));
        }
        let text = text.get_string(&doc.transact());
        let whole = doc.transact().encode_state_as_update_v1(&StateVector::default()).into();
        Self { updates, clocks, text, whole }
    }

    pub(crate) fn len(&self) -> usize {
        self.updates.len()
    }

    /// The clock at its end.
    pub(crate) fn end(&self) -> u64 {
        self.clocks.last().copied().unwrap_or_default()
    }

    /// How many characters of the text are missing or wrong after these updates.
    pub(crate) fn lost(&self, received: &[Vec<u8>]) -> usize {
        let doc = doc_of(1);
        let text = doc.get_or_insert_text("t");
        for updates in received.chunks(1_000) {
            let mut txn = doc.transact_mut();
            for update in updates {
                // What cannot be applied is missing in the end.
                drop(Update::decode_v1(update).map(|update| txn.apply_update(update)));
            }
        }
        let found = text.get_string(&doc.transact());
        let same = |(a, b): &(char, char)| a == b;
        let equal = found.chars().zip(self.text.chars()).take_while(same).count();
        if found == self.text { 0 } else { (self.text.chars().count() - equal).max(1) }
    }

    /// Types the session into a document, with a watcher; returns what the watcher received.
    pub(crate) fn stream(&self, load: &mut Load, target: &Target) -> Result<Watcher, Failure> {
        let mut watcher = Watcher { writer: load.len(), ..Watcher::default() };
        load.open(target)?;
        load.open(target)?;
        let both = load.joined + 2;
        load.until("joining", &mut watcher, |load, _| load.joined == both)?;
        let mut progress = (watcher.next, Instant::now());
        let (mut sent, mut seen) = (0, 0);
        while watcher.next < self.end() {
            while sent < self.len() && sent < seen + UNDER_WAY {
                let frame = target.dialect.sync(2, &self.updates[sent]);
                load.send_update(watcher.writer, &frame);
                sent += 1;
            }
            load.turn(Duration::from_millis(100), &mut watcher)?;
            while seen < sent && self.clocks[seen] <= watcher.next {
                seen += 1;
            }
            if watcher.next > progress.0 {
                progress = (watcher.next, Instant::now());
            } else if progress.1.elapsed() > STALLED {
                break;
            }
        }
        Ok(watcher)
    }
}

/// Keeps everything that arrives.
#[derive(Debug, Default)]
pub(crate) struct Watcher {
    writer: usize,
    /// The highest clock that has arrived.
    next: u64,
    pub(crate) received: Vec<Vec<u8>>,
}

impl Receive for Watcher {
    fn receive(&mut self, at: usize, message: Message<'_>, _: Instant) {
        if at == self.writer {
            return;
        }
        if let Message::SyncStep2(update) | Message::Update(update) = message {
            self.received.push(update.to_vec());
            // What cannot be read is found missing in the end.
            drop(walk(update, |_, start, len| self.next = self.next.max(start + len)));
        }
    }
}

/// Edits of a session that are replayed, at most.
fn edits(scale: Scale) -> usize {
    scale.pick(300, 20_000, usize::MAX)
}

pub(crate) fn plan(scale: Scale) -> Vec<Measurement> {
    let names = scale.pick(&SESSIONS[..1], &SESSIONS[..1], &SESSIONS[..]);
    let measurement = |&name: &&'static str| {
        let part = match edits(scale) {
            usize::MAX => String::new(),
            edits => format!(", its first {edits} edits"),
        };
        let variant = format!("{name}{part} to 1 watcher, {UNDER_WAY} keystrokes under way");
        Measurement::new(CaseName::Replay, variant, move |lab, kind, figures| {
            run(lab, kind, name, figures)
        })
    };
    names.iter().map(measurement).collect()
}

fn run(lab: &Lab, kind: Kind, name: &'static str, figures: &mut Figures) -> Result<(), Failure> {
    let session = lab.session(name);
    let server: Server = lab.server(kind)?;
    let target = server.target("replay")?;
    let mut load = Load::new()?;
    let (cpu, start) = (server.cpu(), Instant::now());
    let watcher = session.stream(&mut load, &target)?;
    let seconds = start.elapsed().as_secs_f64();
    let cpu = (server.cpu() - cpu).as_secs_f64();
    let updates = session.len() as f64;
    figures.add("server CPU µs/update", cpu * 1e6 / updates);
    figures.add("updates/s", updates / seconds);
    figures.add("updates", updates);
    figures.add("lost characters", session.lost(&watcher.received) as f64);
    Ok(())
}
