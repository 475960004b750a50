//! Well-formed updates out of arbitrary bytes: every choice is the next byte.

use syncline_protocol::ClientId;
use syncline_protocol::validate::StateVector;
use syncline_protocol::wire::varint::{write_buffer, write_var_uint};

const CLIENTS: u64 = 3;
const ROOTS: [&str; 2] = ["t", "m"];
const KEYS: [&str; 2] = ["k", "l"];

/// Choices, until they run out; then always the first one.
pub(crate) struct Choices<'a> {
    left: &'a [u8],
    /// Whether blocks may have right origins, which are seldom to the right.
    pub(crate) may_lie: bool,
}

impl<'a> Choices<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        let mut choices = Self { left: data, may_lie: false };
        choices.may_lie = choices.byte() % 2 == 1;
        choices
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.left.split_first() else { return 0 };
        self.left = rest;
        first
    }

    pub(crate) fn below(&mut self, end: u32) -> u32 {
        u32::from(self.byte()) % end.max(1)
    }

    pub(crate) fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.left.split_at(len.min(self.left.len()));
        self.left = rest;
        taken
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u32) as usize]
    }
}

/// An update that continues what is known, or overlaps it.
pub(crate) fn update(choices: &mut Choices<'_>, known: &StateVector) -> Vec<u8> {
    let clock = |client: u64| known.get(&ClientId::new(client).unwrap()).copied().unwrap_or(0);
    let mut bytes = Vec::new();
    let shape = choices.byte();
    let writers: Vec<u64> = (1..=CLIENTS).filter(|client| shape >> client & 1 == 0).collect();
    write_var_uint(&mut bytes, writers.len() as u64);
    for &client in &writers {
        let blocks = 1 + choices.below(3);
        let back = choices.of(&[0, 0, 0, 0, 0, 0, 1, 2]);
        let mut next = clock(client).saturating_sub(back);
        write_var_uint(&mut bytes, u64::from(blocks));
        write_var_uint(&mut bytes, client);
        write_var_uint(&mut bytes, u64::from(next));
        for _ in 0..blocks {
            next += block(choices, &mut bytes, (client, next), &clock);
        }
    }
    let deleters: Vec<u64> =
        (1..=CLIENTS).filter(|client| shape >> (4 + client) & 1 == 1).collect();
    write_var_uint(&mut bytes, deleters.len() as u64);
    for client in deleters {
        let ranges = 1 + choices.below(2);
        write_var_uint(&mut bytes, client);
        write_var_uint(&mut bytes, u64::from(ranges));
        let mut at = 0;
        for _ in 0..ranges {
            at += choices.below(clock(client) + 3);
            let len = 1 + choices.below(4);
            write_var_uint(&mut bytes, u64::from(at));
            write_var_uint(&mut bytes, u64::from(len));
            at += len;
        }
    }
    bytes
}

fn block(
    choices: &mut Choices<'_>,
    bytes: &mut Vec<u8>,
    (client, at): (u64, u32),
    clock: &impl Fn(u64) -> u32,
) -> u32 {
    let kind = choices.of(&[4, 4, 7, 7, 8, 8, 1, 6, 5, 3, 0]);
    if kind == 0 {
        let len = 1 + choices.below(3);
        bytes.push(0);
        write_var_uint(bytes, u64::from(len));
        return len;
    }
    let id = |choices: &mut Choices<'_>, bytes: &mut Vec<u8>| {
        let other = 1 + u64::from(choices.below(CLIENTS as u32));
        let end = if other == client { at } else { clock(other) + choices.of(&[0, 0, 0, 2]) };
        write_var_uint(bytes, other);
        // Counted from the end, where the living are.
        let back = choices.below(end.min(16)) + 1;
        write_var_uint(bytes, u64::from(end.saturating_sub(back)));
    };
    let mut flags = choices.of(&[0, 0x20, 0x20, 0x80, 0x80, 0x40, 0xc0, 0xc0]);
    if !choices.may_lie {
        flags &= !0x40;
    }
    bytes.push(kind | flags);
    for flag in [0x80, 0x40] {
        if flags & flag != 0 {
            id(choices, bytes);
        }
    }
    if flags & 0xc0 == 0 {
        if choices.below(2) == 0 {
            bytes.push(0);
            id(choices, bytes);
        } else {
            bytes.push(1);
            write_buffer(bytes, choices.of(&ROOTS).as_bytes());
        }
        if flags & 0x20 != 0 {
            write_buffer(bytes, choices.of(&KEYS).as_bytes());
        }
    }
    content(choices, bytes, kind)
}

fn content(choices: &mut Choices<'_>, bytes: &mut Vec<u8>, kind: u8) -> u32 {
    match kind {
        1 => {
            let len = 1 + choices.below(3);
            write_var_uint(bytes, u64::from(len));
            return len;
        }
        3 => write_buffer(bytes, &[0xff, 0]),
        4 => {
            let text = choices.of(&["x", "ab", "\u{1f600}", "h\u{e9}llo"]);
            write_buffer(bytes, text.as_bytes());
            return text.encode_utf16().count() as u32;
        }
        5 => write_buffer(bytes, br#"{"image":[1,null]}"#),
        6 => {
            write_buffer(bytes, b"bold");
            write_buffer(bytes, choices.of(&["true", "null"]).as_bytes());
        }
        7 => {
            let tag = choices.of(&[0, 1, 2, 3, 4, 6]);
            bytes.push(tag);
            if tag == 3 {
                write_buffer(bytes, b"p");
            }
        }
        _ => {
            let len = 1 + choices.of(&[0, 0, 1, 2]);
            write_var_uint(bytes, u64::from(len));
            for _ in 0..len {
                bytes.extend_from_slice(choices.of(&[&[126][..], &[125, 5], &[117, 1, 120]]));
            }
            return len;
        }
    }
    1
}
