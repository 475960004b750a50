use bytes::Bytes;
use syncline_protocol::document::{Input, LoadedDocument};
use syncline_protocol::time::Millis;
use syncline_protocol::wire::{ClientMessage, Dialect};
use syncline_protocol::{Access, CloseCode, Epoch, LoggedUpdate, Sequence, Snapshot, StoredLog};

use crate::scene::{Got, Limits, Person, Scene, limits, poison, refused};

const WORD: &str = "document_quarantined";

impl Scene {
    fn load_quarantined(&mut self) {
        let (mut loaded, _) = LoadedDocument::salvage(&self.log, &self.limits);
        loaded.quarantine("a test");
        self.handle(Input::Loaded(Box::new(loaded)));
    }
}

/// A log of so many updates of one letter each, and who wrote it.
fn log(updates: u64) -> (StoredLog, Person) {
    let ann = Person::new(1);
    let updates = (1..=updates).map(|sequence| logged(sequence, ann.write("a"))).collect();
    (StoredLog { epoch: Epoch::new(7), snapshot: None, updates }, ann)
}

fn logged(sequence: u64, update: Bytes) -> LoggedUpdate {
    LoggedUpdate { sequence: Sequence::new(sequence), update, ..LoggedUpdate::default() }
}

fn text(mut loaded: LoadedDocument) -> String {
    let person = Person::new(2);
    person.take(&loaded.state().unwrap());
    person.text()
}

#[test]
fn quarantine_1_it_is_served_and_never_changes() {
    let mut scene = Scene::new(Limits { snapshot_updates: 1, ..limits() });
    let (log, ann) = log(3);
    scene.log = log;
    scene.writer(1);
    scene.load_quarantined();
    assert_eq!(scene.document.quarantine(), Some("a test"));
    assert_eq!(scene.got(1), [Got::Welcome(Epoch::new(7).to_string(), true)], "nor is it asked");
    scene.ask(1);
    scene.update(1, &ann.write("b"));
    scene.update(1, &ann.delete(1));
    scene.stall();
    scene.resume();
    scene.answer(1, &ann.everything());
    scene.handle(Input::Check);
    assert_eq!(scene.got_sync(1)[1..], [1, 2, 3].map(|frame| refused(frame, WORD)));
    scene.leave(1);
    scene.pass(Millis::from_secs(31));
    assert_eq!((scene.appended(), scene.snapshots().len(), scene.compares().len()), (0, 0, 0));
    assert_eq!(scene.unloads(), 1);
}

#[test]
fn quarantine_2_offline_edits_are_refused_once() {
    let mut scene = Scene::new(limits());
    let (log, ann) = log(1);
    scene.log = log;
    scene.deadline();
    scene.load_quarantined();
    scene.join(1, Access::Write, Dialect::YWebsocket);
    scene.join(2, Access::Write, Dialect::YWebsocket);
    drop(ann.write("offline"));
    scene.say(1, ClientMessage::SyncStep1 { state_vector: ann.state_vector() });
    for session in 1..=2 {
        scene.update(session, &ann.write("b"));
        scene.update(session, &ann.write("c"));
        let is_denied = |got: &Got| matches!(got, Got::Denied(word) if word == WORD);
        assert_eq!(scene.got(session).iter().filter(|got| is_denied(got)).count(), 1);
    }
}

#[test]
fn quarantine_3_salvage_keeps_what_is_before_the_bad_record() {
    let damages: [fn(&mut StoredLog, usize); 3] = [
        |log, at| log.updates[at].update = Bytes::from_static(&[9, 9, 9]),
        |log, at| log.updates[at].update = poison(),
        |log, at| drop(log.updates.remove(at)),
    ];
    for damage in damages {
        for at in [0, 1, 50, 99, 100, 101, 199] {
            let (mut log, _) = log(230);
            damage(&mut log, at);
            let (loaded, cause) = LoadedDocument::salvage(&log, &limits());
            assert!(cause.is_some());
            assert_eq!((loaded.last(), loaded.epoch()), (Sequence::new(at as u64), Epoch::new(7)));
            assert_eq!(text(loaded), "a".repeat(at));
        }
    }
    let (log, _) = log(230);
    let (loaded, cause) = LoadedDocument::salvage(&log, &limits());
    assert_eq!((cause, text(loaded)), (None, "a".repeat(230)));
}

#[test]
fn quarantine_3_two_bad_records_leave_what_is_before_the_first() {
    let (mut log, _) = log(230);
    log.updates[40].update = poison();
    log.updates[60].update = Bytes::from_static(&[9, 9, 9]);
    let (loaded, cause) = LoadedDocument::salvage(&log, &limits());
    assert!(cause.is_some());
    assert_eq!(text(loaded), "a".repeat(40));
}

#[test]
fn quarantine_3_without_its_snapshot_a_log_is_empty() {
    let (mut log, ann) = log(2);
    let through = Sequence::new(2);
    log.snapshot = Some(Snapshot { through, state: ann.everything() });
    log.updates = vec![logged(3, ann.write("b"))];
    let (loaded, cause) = LoadedDocument::salvage(&log, &limits());
    assert_eq!((cause, text(loaded)), (None, "baa".into()));
    log.snapshot = Some(Snapshot { through, state: poison() });
    let (loaded, cause) = LoadedDocument::salvage(&log, &limits());
    assert!(cause.is_some());
    assert_eq!((loaded.last(), text(loaded)), (Sequence::ZERO, String::new()));
}

#[test]
fn quarantine_3_a_salvaged_document_is_read_only() {
    let mut scene = Scene::new(limits());
    let (log, ann) = log(3);
    scene.log = log;
    scene.log.updates[1].update = poison();
    scene.writer(1);
    let (loaded, _) = LoadedDocument::salvage(&scene.log, &scene.limits);
    scene.handle(Input::Loaded(Box::new(loaded)));
    scene.answer(1, &ann.everything());
    assert_eq!(scene.got_sync(1), [refused(1, WORD)]);
}

#[test]
fn quarantine_4_a_quarantining_reload_closes_sessions() {
    let mut scene = Scene::ready(limits());
    let ann = Person::new(1);
    scene.follower(1);
    scene.update(1, &ann.write("a"));
    scene.persisted(1);
    scene.follower(2);
    scene.update(2, &poison());
    scene.writer(3);
    scene.log.updates[0].update = poison();
    scene.clear();
    scene.load_quarantined();
    assert_eq!(scene.got(1), [Got::Closed(CloseCode::Internal)]);
    assert_eq!(scene.got(3), [Got::Welcome(String::new(), true)]);
}
