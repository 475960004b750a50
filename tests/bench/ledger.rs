//! Which update has reached whom, and how long it took. Servers merge and drop, so what counts is
//! what an update says, not how many frames came.

use std::time::Instant;

use crate::socket::Receive;
use crate::statistics::Latencies;
use crate::update::{presences, walk};
use crate::wire::Message;

/// The documents, their writers and everybody who should hear of it.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    documents: Vec<Document>,
    writers: Vec<Sent>,
    members: Vec<Member>,
    /// Clocks that one update takes.
    unit: u64,
    pub(crate) latencies: Latencies,
    /// Updates that reached somebody.
    pub(crate) delivered: u64,
    /// Updates that reached everybody.
    pub(crate) completed: u64,
    /// Presence of others that reached somebody.
    pub(crate) presence: u64,
    /// What was received that cannot be read.
    pub(crate) unreadable: u64,
    /// The update read last, and what it holds.
    last: (Vec<u8>, Vec<(usize, u64, u64)>),
}

#[derive(Debug, Default)]
struct Document {
    /// Its writers are numbered in a row.
    first_writer: usize,
    members: u32,
}

/// What one writer has sent.
#[derive(Debug, Default)]
struct Sent {
    at: Vec<Instant>,
    /// How many each has reached.
    arrived: Vec<u32>,
    completed: u64,
    document: usize,
}

#[derive(Debug)]
struct Member {
    document: usize,
    writer: Option<usize>,
    /// Whether what reaches them counts.
    role: Role,
    /// For each writer of the document, the first clock that has not come yet.
    next: Vec<u64>,
    /// What was passed over: writer, first clock, end.
    holes: Vec<(usize, u64, u64)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Role {
    Member,
    Bystander,
}

impl Ledger {
    pub(crate) fn new(unit: u64) -> Self {
        Self { unit, ..Self::default() }
    }

    /// A document with so many writers; returns its number.
    pub(crate) fn document(&mut self, writers: usize) -> usize {
        let document = self.documents.len();
        let first_writer = self.writers.len();
        self.documents.push(Document { first_writer, members: 0 });
        self.writers.extend((0..writers).map(|_| Sent { document, ..Sent::default() }));
        document
    }

    /// The next connection belongs to a document, and to one of its writers.
    pub(crate) fn member(&mut self, document: usize, writer: Option<usize>) {
        self.documents[document].members += 1;
        self.add(document, writer, Role::Member);
    }

    /// The next connection belongs to a document, and nobody waits for it.
    pub(crate) fn bystander(&mut self, document: usize) {
        self.add(document, None, Role::Bystander);
    }

    fn add(&mut self, document: usize, writer: Option<usize>, role: Role) {
        let first = self.documents[document].first_writer;
        let writers =
            self.writers[first..].iter().take_while(|sent| sent.document == document).count();
        let member = Member { document, writer, role, next: vec![0; writers], holes: Vec::new() };
        self.members.push(member);
    }

    /// A writer sends its next update now.
    pub(crate) fn sent(&mut self, writer: usize, at: Instant) {
        self.writers[writer].at.push(at);
        self.writers[writer].arrived.push(0);
    }

    /// Updates of a writer that have reached everybody.
    pub(crate) fn completed_of(&self, writer: usize) -> u64 {
        self.writers[writer].completed
    }

    /// The first clock of a document's writer that a connection lacks.
    pub(crate) fn next(&self, at: usize, writer_of_document: usize) -> u64 {
        self.members[at].next[writer_of_document]
    }

    /// Whether a connection has everything that the first writer of its document sent.
    pub(crate) fn has_all(&self, at: usize) -> bool {
        let member = &self.members[at];
        let sent = &self.writers[self.documents[member.document].first_writer];
        member.holes.is_empty() && member.next[0] == sent.at.len() as u64 * self.unit
    }

    /// The update that arrived last.
    pub(crate) fn last_payload(&self) -> &[u8] {
        &self.last.0
    }

    /// Begins to count anew.
    pub(crate) fn clear(&mut self) {
        self.latencies.clear();
        self.delivered = 0;
        self.completed = 0;
        self.presence = 0;
    }

    /// Deliveries that are still due, of everything ever sent.
    pub(crate) fn missing(&self) -> u64 {
        let due = |sent: &Sent| {
            let others = self.documents[sent.document].members - 1;
            sent.arrived
                .iter()
                .map(|&arrived| u64::from(others.saturating_sub(arrived)))
                .sum::<u64>()
        };
        self.writers.iter().map(due).sum()
    }

    fn update(&mut self, at: usize, update: &[u8], now: Instant) {
        // The same goes to many: comparing is cheaper than reading.
        if self.last.0 != update {
            let mut ranges = std::mem::take(&mut self.last.1);
            ranges.clear();
            self.walk(update, &mut ranges);
            self.last.0.clear();
            self.last.0.extend(update);
            self.last.1 = ranges;
        }
        for index in 0..self.last.1.len() {
            let (writer, start, len) = self.last.1[index];
            self.range((at, now), writer, start, start + len);
        }
    }

    fn walk(&mut self, update: &[u8], ranges: &mut Vec<(usize, u64, u64)>) {
        if let Err(error) = walk(update, |writer, start, len| ranges.push((writer, start, len))) {
            if self.unreadable == 0 {
                eprintln!("an update cannot be read: {error}");
            }
            self.unreadable += 1;
        }
    }

    fn range(&mut self, (at, now): (usize, Instant), writer: usize, start: u64, end: u64) {
        let member = &mut self.members[at];
        let first = self.documents[member.document].first_writer;
        let Some(next) = writer.checked_sub(first).and_then(|own| member.next.get_mut(own)) else {
            return;
        };
        if member.writer == Some(writer) {
            return;
        }
        if start > *next {
            member.holes.push((writer, *next, start));
        }
        let fresh = start.max(*next);
        *next = end.max(*next);
        let mut filled = Vec::new();
        if start < fresh && !member.holes.is_empty() {
            member.holes.retain(|&(of, from, to)| {
                let within = of == writer && start <= from && to <= end;
                if within {
                    filled.push((from, to));
                }
                !within
            });
        }
        filled.push((fresh, end));
        if member.role == Role::Bystander {
            return;
        }
        for (from, to) in filled {
            self.arrived(writer, from, to, now);
        }
    }

    fn arrived(&mut self, writer: usize, from: u64, to: u64, now: Instant) {
        let sent = &mut self.writers[writer];
        let others = self.documents[sent.document].members - 1;
        for index in from / self.unit..to / self.unit {
            let index = index as usize;
            // What was there before the measurement has no time of sending.
            let Some(&at) = sent.at.get(index) else { break };
            self.latencies.add(now - at);
            self.delivered += 1;
            sent.arrived[index] += 1;
            if sent.arrived[index] == others {
                sent.completed += 1;
                self.completed += 1;
            }
        }
    }
}

impl Receive for Ledger {
    fn receive(&mut self, at: usize, message: Message<'_>, now: Instant) {
        match message {
            Message::SyncStep2(update) | Message::Update(update) => self.update(at, update, now),
            Message::Presence(states) => match presences(states, self.members[at].writer) {
                Ok(others) => self.presence += others,
                Err(_) => self.unreadable += 1,
            },
            Message::SyncStep1 | Message::Saved(_) | Message::Other => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::update::Writer;

    #[test]
    fn merged_late_and_lost_updates_are_told_apart() {
        let mut ledger = Ledger::new(1);
        let document = ledger.document(1);
        ledger.member(document, Some(0));
        ledger.member(document, None);
        let now = Instant::now();
        let mut writer = Writer::new(0);
        let updates: Vec<Vec<u8>> = ["a", "b", "cd"].map(|text| writer.append(text)).into();
        (0..4).for_each(|_| ledger.sent(0, now));
        ledger.receive(1, Message::Update(&updates[0]), now);
        ledger.receive(1, Message::Update(&updates[0]), now);
        assert_eq!((ledger.delivered, ledger.missing()), (1, 3));
        ledger.receive(1, Message::Update(&updates[2]), now);
        assert_eq!((ledger.delivered, ledger.missing(), ledger.completed), (3, 1, 3));
        let mut again = Writer::new(0);
        again.append("a");
        ledger.receive(1, Message::Update(&again.append("b")), now);
        assert_eq!((ledger.delivered, ledger.missing(), ledger.completed_of(0)), (4, 0, 4));
        ledger.receive(0, Message::Update(&updates[0]), now);
        assert_eq!(ledger.delivered, 4);
    }
}
