//! A client's copy of the document: in yrs, or in Yjs itself behind the oracle process.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use yrs::block::ClientID;
use yrs::types::Attrs;
use yrs::types::text::YChange;
use yrs::updates::decoder::Decode;
use yrs::updates::encoder::Encode;
use yrs::{
    Any, Array, ArrayPrelim, ArrayRef, Doc, Map, MapPrelim, MapRef, OffsetKind, Options, Out,
    ReadTxn, StateVector, Text, TextPrelim, TextRef, Transact, Transaction, TransactionMut, Update,
    Xml, XmlElementPrelim, XmlFragment, XmlFragmentRef, XmlOut, XmlTextPrelim, any,
};

use crate::oracle::Oracle;
use crate::random::Rng;

/// What readers write. It must never be seen anywhere else.
pub(crate) const MARKER: &str = "FORBIDDEN";

#[derive(Debug)]
pub(crate) enum Replica {
    Yrs(YrsCopy),
    Yjs(YjsCopy),
}

impl Replica {
    /// Edits at random and returns the updates that this emits.
    pub(crate) fn edit(&mut self, rng: &mut Rng) -> Vec<Vec<u8>> {
        match self {
            Self::Yrs(copy) => copy.edit(rng),
            Self::Yjs(copy) => copy.edit(rng),
        }
    }

    /// Writes what must not be written.
    pub(crate) fn scribble(&mut self) -> Vec<Vec<u8>> {
        match self {
            Self::Yrs(copy) => copy.scribble(),
            Self::Yjs(_) => Vec::new(),
        }
    }

    /// An empty copy of the same kind.
    pub(crate) fn fresh(&self, client: u64) -> Self {
        match self {
            Self::Yrs(_) => Self::Yrs(YrsCopy::new(client)),
            Self::Yjs(copy) => Self::Yjs(YjsCopy::new(Rc::clone(&copy.oracle), client)),
        }
    }

    /// Takes in an update and returns those that this emits in turn.
    pub(crate) fn apply(&mut self, update: &[u8]) -> Vec<Vec<u8>> {
        match self {
            Self::Yrs(copy) => {
                copy.apply(update);
                Vec::new()
            }
            Self::Yjs(copy) => copy.apply(update),
        }
    }

    pub(crate) fn state_vector(&self) -> Vec<u8> {
        match self {
            Self::Yrs(copy) => copy.doc.transact().state_vector().encode_v1(),
            Self::Yjs(copy) => copy.ask("state_vector", "state_vector", json!({})),
        }
    }

    /// What a peer at `state_vector` lacks.
    pub(crate) fn diff(&self, state_vector: &[u8]) -> Vec<u8> {
        match self {
            Self::Yrs(copy) => copy.diff(state_vector),
            Self::Yjs(copy) => copy.diff(state_vector),
        }
    }

    pub(crate) fn is_pending(&self) -> bool {
        match self {
            Self::Yrs(copy) => copy.doc.transact().has_missing_updates(),
            Self::Yjs(copy) => copy.pending,
        }
    }
}

#[derive(Debug)]
pub(crate) struct YrsCopy {
    doc: Doc,
    sent: Arc<Mutex<Vec<Vec<u8>>>>,
    text: TextRef,
    map: MapRef,
    array: ArrayRef,
    xml: XmlFragmentRef,
}

impl YrsCopy {
    pub(crate) fn new(client: u64) -> Self {
        let doc = Doc::with_options(Options {
            client_id: ClientID::new(client),
            offset_kind: OffsetKind::Utf16,
            cleanup_formatting: false,
            ..Options::default()
        });
        let sent = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&sent);
        doc.observe_update_v1("log", move |_, event| {
            log.lock().unwrap().push(event.update.clone());
        })
        .unwrap();
        let text = doc.get_or_insert_text("text");
        let map = doc.get_or_insert_map("map");
        let array = doc.get_or_insert_array("array");
        let xml = doc.get_or_insert_xml_fragment("xml");
        Self { doc, sent, text, map, array, xml }
    }

    /// A copy that holds what `update` says and nothing else.
    pub(crate) fn of(update: &[u8]) -> Self {
        let copy = Self::new(1);
        copy.apply(update);
        copy
    }

    pub(crate) fn apply(&self, update: &[u8]) {
        self.changes(update);
        self.sent.lock().unwrap().clear();
    }

    /// Takes in an update and returns whether anything in it was new.
    pub(crate) fn changes(&self, update: &[u8]) -> bool {
        let mut txn = self.doc.transact_mut();
        txn.apply_update(Update::decode_v1(update).unwrap()).unwrap();
        txn.has_changes()
    }

    pub(crate) fn clocks(&self) -> StateVector {
        self.doc.transact().state_vector()
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.doc.transact().has_missing_updates()
    }

    fn diff(&self, state_vector: &[u8]) -> Vec<u8> {
        let state_vector = StateVector::decode_v1(state_vector).unwrap();
        self.doc.transact().encode_diff_v1(&state_vector)
    }

    /// All that it says, in a form that can be compared.
    pub(crate) fn content(&self) -> Value {
        let txn = self.doc.transact();
        json!({
            "text": chunks(&txn, &self.text),
            "map": plain(&txn, Out::YMap(self.map.clone())),
            "array": plain(&txn, Out::YArray(self.array.clone())),
            "xml": self.xml.children(&txn).map(|node| xml(&txn, node)).collect::<Vec<_>>(),
        })
    }

    /// All that it holds.
    pub(crate) fn state(&self) -> Vec<u8> {
        self.diff(&[0])
    }

    pub(crate) fn edit(&self, rng: &mut Rng) -> Vec<Vec<u8>> {
        let mut txn = self.doc.transact_mut();
        for _ in 0..=rng.below(2) {
            match rng.below(12) {
                0..5 => edit_text(rng, &mut txn, &self.text),
                5..8 => edit_map(rng, &mut txn, &self.map),
                8..10 => edit_array(rng, &mut txn, &self.array),
                _ => edit_xml(rng, &mut txn, &self.xml),
            }
        }
        drop(txn);
        self.take_sent()
    }

    fn scribble(&self) -> Vec<Vec<u8>> {
        let mut txn = self.doc.transact_mut();
        self.text.insert(&mut txn, 0, MARKER);
        drop(txn);
        self.take_sent()
    }

    fn take_sent(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *self.sent.lock().unwrap())
    }
}

/// A value without the random order in which yrs writes marks and attributes as a string.
fn plain(txn: &Transaction<'_>, value: Out) -> Value {
    match value {
        Out::Any(any) => json!(any),
        Out::YText(text) => json!(chunks(txn, &text)),
        Out::YArray(array) => json!(array.iter(txn).map(|it| plain(txn, it)).collect::<Vec<_>>()),
        Out::YMap(map) => {
            let entries = map.iter(txn).map(|(key, it)| (key.to_owned(), plain(txn, it)));
            Value::Object(entries.collect())
        }
        Out::YXmlElement(element) => xml(txn, XmlOut::Element(element)),
        Out::YXmlFragment(fragment) => xml(txn, XmlOut::Fragment(fragment)),
        Out::YXmlText(text) => xml(txn, XmlOut::Text(text)),
        Out::YDoc(_) | Out::UndefinedRef(_) => Value::Null,
    }
}

/// A text with its marks.
fn chunks(txn: &Transaction<'_>, text: &impl Text) -> Vec<Value> {
    let chunks = text.diff(txn, YChange::identity).into_iter();
    chunks
        .map(|chunk| {
            let marks = chunk.attributes.map(|marks| {
                marks.iter().map(|(key, any)| (key.to_string(), json!(any))).collect()
            });
            json!([plain(txn, chunk.insert), marks.map(Value::Object)])
        })
        .collect()
}

fn xml(txn: &Transaction<'_>, node: XmlOut) -> Value {
    match node {
        XmlOut::Text(text) => json!(chunks(txn, &text)),
        XmlOut::Fragment(fragment) => {
            json!(fragment.children(txn).map(|node| xml(txn, node)).collect::<Vec<_>>())
        }
        XmlOut::Element(element) => {
            let attributes: BTreeMap<_, _> = element
                .attributes(txn)
                .map(|(name, value)| (name.to_owned(), value.to_string(txn)))
                .collect();
            let children: Vec<_> = element.children(txn).map(|node| xml(txn, node)).collect();
            json!([element.tag().as_ref(), attributes, children])
        }
    }
}

fn edit_text(rng: &mut Rng, txn: &mut TransactionMut<'_>, text: &TextRef) {
    let places = places(txn, text);
    let start = rng.index(places.len());
    let at = places[start];
    // How far from there to a place at most `more` characters on.
    let length = |rng: &mut Rng, more: usize| {
        let end = (start + 1 + rng.index(more)).min(places.len() - 1);
        places[end] - at
    };
    let bold = Attrs::from([("bold".into(), [Any::Bool(true), Any::Null][rng.index(2)].clone())]);
    match rng.below(7) {
        0 | 1 => text.insert(txn, at, rng.pick(&["a", "hello ", "\u{e9}\u{20ac}", "z"])),
        2 => text.insert_with_attributes(txn, at, "bold", bold),
        3 => {
            text.insert_embed(txn, at, any!({"image": ["x", 1, null]}));
        }
        4 | 5 if start + 1 < places.len() => text.remove_range(txn, at, length(rng, 4)),
        6 if start + 1 < places.len() => text.format(txn, at, length(rng, places.len()), bold),
        _ => {}
    }
}

/// Where one may edit: never between the halves of a surrogate pair, after which Yjs and its own
/// clients show different text.
fn places(txn: &TransactionMut<'_>, text: &TextRef) -> Vec<u32> {
    let mut places = vec![0];
    let mut at = 0;
    for chunk in text.diff(txn, YChange::identity) {
        let units = if let Out::Any(Any::String(text)) = chunk.insert {
            text.chars().map(char::len_utf16).collect()
        } else {
            vec![1]
        };
        for units in units {
            at += u32::try_from(units).unwrap();
            places.push(at);
        }
    }
    places
}

fn edit_map(rng: &mut Rng, txn: &mut TransactionMut<'_>, map: &MapRef) {
    let key = rng.pick(&["k", "l", "n"]);
    match rng.below(6) {
        0 => {
            map.insert(txn, key, any!({"deep": [[1.5, "x"], {"y": true}]}));
        }
        1 => {
            map.insert(txn, key, Any::Buffer(vec![0, 255].into()));
        }
        2 => {
            let nested = map.insert(txn, key, MapPrelim::default());
            nested.insert(txn, "inner", TextPrelim::new("nested"));
        }
        3 => match map.get(txn, key) {
            Some(Out::YMap(nested)) => {
                nested.insert(txn, "more", i64::from(rng.at(1_000)));
            }
            _ => drop(map.insert(txn, key, Any::Undefined)),
        },
        4 => drop(map.insert(txn, key, f64::from(rng.at(1_000)))),
        _ => drop(map.remove(txn, key)),
    }
}

fn edit_array(rng: &mut Rng, txn: &mut TransactionMut<'_>, array: &ArrayRef) {
    let len = array.len(txn);
    let at = rng.at(len);
    match rng.below(4) {
        0 => array.insert_range(txn, at, [Any::from(1), Any::from("two"), Any::Null]),
        1 => drop(array.insert(txn, at, ArrayPrelim::from([1, 2, 3]))),
        _ if at < len => array.remove_range(txn, at, 1),
        _ => {}
    }
}

fn edit_xml(rng: &mut Rng, txn: &mut TransactionMut<'_>, xml: &XmlFragmentRef) {
    let len = xml.len(txn);
    let at = rng.at(len);
    match rng.below(3) {
        0 => {
            let element = xml.insert(txn, at, XmlElementPrelim::empty("p"));
            element.insert_attribute(txn, "class", "wide");
            element.push_back(txn, XmlTextPrelim::new("text"));
        }
        1 => drop(xml.insert(txn, at, XmlTextPrelim::new("loose"))),
        _ if at < len => xml.remove_range(txn, at, 1),
        _ => {}
    }
}

/// A document that Yjs itself holds.
#[derive(Debug)]
pub(crate) struct YjsCopy {
    oracle: Rc<RefCell<Oracle>>,
    id: u64,
    pending: bool,
}

impl YjsCopy {
    pub(crate) fn new(oracle: Rc<RefCell<Oracle>>, client: u64) -> Self {
        let id = oracle.borrow_mut().new_document(client);
        Self { oracle, id, pending: false }
    }

    /// Whether Yjs finds its own document and `state` equal.
    pub(crate) fn equals(&self, state: &[u8]) -> bool {
        let own = self.diff(&[0]);
        self.oracle.borrow_mut().equal(&own, state)
    }

    fn edit(&self, rng: &mut Rng) -> Vec<Vec<u8>> {
        let seed = format!("simulation/{}", rng.next());
        let answer = self.oracle.borrow_mut().request("edit", self.id, json!({ "seed": seed }));
        Oracle::updates(&answer)
    }

    fn apply(&mut self, update: &[u8]) -> Vec<Vec<u8>> {
        let update = crate::oracle::to_base64(update);
        let answer = self.oracle.borrow_mut().request("apply", self.id, json!({"update": update}));
        self.pending = answer["pending"] == true;
        Oracle::updates(&answer)
    }

    fn diff(&self, state_vector: &[u8]) -> Vec<u8> {
        let state_vector = crate::oracle::to_base64(state_vector);
        self.ask("diff", "update", json!({ "state_vector": state_vector }))
    }

    fn ask(&self, op: &str, field: &str, arguments: Value) -> Vec<u8> {
        let answer = self.oracle.borrow_mut().request(op, self.id, arguments);
        crate::oracle::from_base64(answer[field].as_str().unwrap())
    }
}

impl Drop for YjsCopy {
    fn drop(&mut self) {
        if let Ok(mut oracle) = self.oracle.try_borrow_mut() {
            oracle.request("free", self.id, json!({}));
        }
    }
}
