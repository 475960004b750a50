//! One record of the journal, to bytes and back.
//!
//! ```text
//! mark u32 | body length u32 | CRC-32C of the body u32 | body
//! body: kind u8 | synced u64 | sequence u64 | time u64
//!       | name length u8 | name | author length u16 | author
//!       | of a state: epoch u64 | origin u64
//!       | payload
//! ```
//!
//! Integers are little-endian. The kinds are 1 update, 2 snapshot, 3 origin and 4 seal. `synced` is how many bytes of the segment were known to be on disk
//! when the record was written: a later record proves with it which bytes before it had been
//! acknowledged, and so tells a torn tail from damage.
//!
//! The mark and the seed of the CRC are random per segment. Payloads are chosen by clients, and a
//! search for the next record after damage walks through them: without the randomness a payload
//! could carry a forged record of somebody else's document.

use syncline_protocol::{DocumentName, Epoch, Sequence, Timestamp};

use crate::store::fields::{take, text};

/// Bytes before the body.
pub(super) const PREFIX_BYTES: usize = 12;
/// Bytes of a body without its name, author and payload.
const FIXED_BYTES: usize = 1 + 8 + 8 + 8 + 1 + 2;
/// Bytes of a lineage.
const LINEAGE_BYTES: usize = 8 + 8;
/// The longest payload: twice the largest document that the default limits allow.
pub(super) const PAYLOAD_BYTES_MAX: usize = 128 << 20;
/// The longest author; two bytes hold its length.
pub(super) const AUTHOR_BYTES_MAX: usize = u16::MAX as usize;
/// The longest body that is believed when it is read.
const BODY_BYTES_MAX: usize =
    FIXED_BYTES + DocumentName::BYTES_MAX + AUTHOR_BYTES_MAX + LINEAGE_BYTES + PAYLOAD_BYTES_MAX;

/// The secrets of a segment, from its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Salt {
    pub(super) mark: [u8; 4],
    pub(super) seed: u32,
}

/// What a record carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One update, at `sequence`.
    Update,
    /// A whole state, through `sequence`.
    Snapshot(Lineage),
    /// A whole state that takes the place of everything before it. Its `origin` is its `sequence`.
    Origin(Lineage),
    /// Nothing, of no document. Written only when everything before it is on disk, it proves so.
    Seal,
}

/// Which history a state belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lineage {
    /// The identity of the history.
    pub(super) epoch: Epoch,
    /// Where it was last begun anew; 0 if never. Every state says it, so that what lies before
    /// stays dead when the record of the origin itself is gone.
    pub(super) origin: Sequence,
}

impl Kind {
    /// The lineage of a record that holds a state.
    pub(super) fn lineage(self) -> Option<Lineage> {
        match self {
            Self::Snapshot(lineage) | Self::Origin(lineage) => Some(lineage),
            Self::Update | Self::Seal => None,
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Update => 1,
            Self::Snapshot(_) => 2,
            Self::Origin(_) => 3,
            Self::Seal => 4,
        }
    }
}

/// A record without the position it has in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fields<'a> {
    pub(super) kind: Kind,
    pub(super) sequence: Sequence,
    pub(super) time: Timestamp,
    pub(super) document: &'a str,
    pub(super) author: &'a str,
    pub(super) payload: &'a [u8],
}

/// A record as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decoded<'a> {
    pub(super) fields: Fields<'a>,
    /// Bytes of the segment that were known to be on disk when this was written.
    pub(super) synced: u64,
    /// Length with the prefix.
    pub(super) bytes: usize,
}

impl Fields<'_> {
    /// Length with the prefix.
    pub(super) fn bytes(&self) -> usize {
        let lineage = self.kind.lineage().map_or(0, |_| LINEAGE_BYTES);
        let texts = self.document.len() + self.author.len();
        PREFIX_BYTES + FIXED_BYTES + texts + lineage + self.payload.len()
    }

    /// The length of the part that is too long, and the most that is allowed.
    pub(super) fn excess(&self) -> Option<(usize, usize)> {
        if self.payload.len() > PAYLOAD_BYTES_MAX {
            Some((self.payload.len(), PAYLOAD_BYTES_MAX))
        } else if self.author.len() > AUTHOR_BYTES_MAX {
            Some((self.author.len(), AUTHOR_BYTES_MAX))
        } else {
            None
        }
    }

    /// Appends the record to `out`. The caller has asked for [`Fields::excess`].
    pub(super) fn encode(&self, salt: Salt, synced: u64, out: &mut Vec<u8>) {
        out.reserve(self.bytes());
        self.encode_front(salt, synced, out);
        out.extend_from_slice(self.payload);
    }

    /// Appends everything but the payload, which comes next.
    #[expect(clippy::cast_possible_truncation, reason = "`excess` bounds every length")]
    pub(super) fn encode_front(&self, salt: Salt, synced: u64, out: &mut Vec<u8>) {
        debug_assert!(self.excess().is_none());
        let start = out.len();
        out.extend_from_slice(&salt.mark);
        out.extend_from_slice(&((self.bytes() - PREFIX_BYTES) as u32).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.push(self.kind.code());
        out.extend_from_slice(&synced.to_le_bytes());
        out.extend_from_slice(&self.sequence.get().to_le_bytes());
        out.extend_from_slice(&self.time.as_unix_ms().to_le_bytes());
        out.push(self.document.len() as u8);
        out.extend_from_slice(self.document.as_bytes());
        out.extend_from_slice(&(self.author.len() as u16).to_le_bytes());
        out.extend_from_slice(self.author.as_bytes());
        if let Some(Lineage { epoch, origin }) = self.kind.lineage() {
            out.extend_from_slice(&epoch.get().to_le_bytes());
            out.extend_from_slice(&origin.get().to_le_bytes());
        }
        let front = out.get(start + PREFIX_BYTES..).unwrap_or_default();
        let crc = crc32c::crc32c_append(salt.seed, front);
        let crc = crc32c::crc32c_append(crc, self.payload).to_le_bytes();
        if let Some(place) = out.get_mut(start + 8..start + PREFIX_BYTES) {
            place.copy_from_slice(&crc);
        }
    }
}

/// Reads the record at the start of `bytes`, if there is an intact one.
pub(super) fn decode(bytes: &[u8], salt: Salt) -> Option<Decoded<'_>> {
    let mut rest = bytes;
    if take::<4>(&mut rest)? != salt.mark {
        return None;
    }
    let length = usize::try_from(u32::from_le_bytes(take(&mut rest)?)).ok()?;
    let crc = u32::from_le_bytes(take(&mut rest)?);
    if !(FIXED_BYTES..=BODY_BYTES_MAX).contains(&length) {
        return None;
    }
    let body = rest.get(..length)?;
    if crc32c::crc32c_append(salt.seed, body) != crc {
        return None;
    }
    let (fields, synced) = decode_body(body)?;
    Some(Decoded { fields, synced, bytes: PREFIX_BYTES + length })
}

/// What the bytes of a damaged record say it was; any of it may be wrong.
pub(super) fn suspect(bytes: &[u8]) -> Option<(Sequence, DocumentName)> {
    let (fields, _) = decode_body(bytes.get(PREFIX_BYTES..)?)?;
    Some((fields.sequence, fields.document.parse().ok()?))
}

fn decode_body(body: &[u8]) -> Option<(Fields<'_>, u64)> {
    let mut rest = body;
    let [code] = take::<1>(&mut rest)?;
    let synced = u64::from_le_bytes(take(&mut rest)?);
    let sequence = Sequence::new(u64::from_le_bytes(take(&mut rest)?));
    let time = Timestamp::from_unix_ms(u64::from_le_bytes(take(&mut rest)?));
    let [name_bytes] = take::<1>(&mut rest)?;
    let document = text(&mut rest, usize::from(name_bytes))?;
    let author_bytes = u16::from_le_bytes(take(&mut rest)?);
    let author = text(&mut rest, usize::from(author_bytes))?;
    let kind = match code {
        1 => Kind::Update,
        2 => Kind::Snapshot(lineage(&mut rest)?),
        3 => Kind::Origin(lineage(&mut rest)?),
        4 => Kind::Seal,
        _ => return None,
    };
    Some((Fields { kind, sequence, time, document, author, payload: rest }, synced))
}

fn lineage(rest: &mut &[u8]) -> Option<Lineage> {
    let epoch = Epoch::new(u64::from_le_bytes(take(rest)?));
    let origin = Sequence::new(u64::from_le_bytes(take(rest)?));
    Some(Lineage { epoch, origin })
}
