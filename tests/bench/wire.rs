//! Frames as clients write and read them. The mask is zero, so a payload is its own masked form and
//! a frame can be made before the clock runs.

use std::rc::Rc;

use syncline_protocol::wire::varint::{ReadError, Reader, write_buffer};

/// What a server sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Message<'a> {
    /// What the server has and the client may lack.
    SyncStep1,
    /// Everything the client asked for.
    SyncStep2(&'a [u8]),
    /// An update.
    Update(&'a [u8]),
    /// Who is where.
    Presence(&'a [u8]),
    /// The first so many update frames are on disk.
    Saved(u64),
    /// Anything else.
    Other,
}

/// How a server wants its messages.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dialect {
    /// What stands before every message: nothing, or with Hocuspocus the document's name.
    pub(crate) prefix: Rc<[u8]>,
}

impl Dialect {
    /// The dialect of y-websocket.
    pub(crate) fn plain() -> Self {
        Self::default()
    }

    /// The dialect of Hocuspocus.
    pub(crate) fn hocuspocus(document: &str) -> Self {
        let mut prefix = Vec::new();
        write_buffer(&mut prefix, document.as_bytes());
        Self { prefix: prefix.into() }
    }

    /// What a client says first.
    pub(crate) fn hello(&self) -> Vec<u8> {
        let mut hello = Vec::new();
        if !self.prefix.is_empty() {
            let mut auth = vec![2, 0];
            write_buffer(&mut auth, b"any");
            write_buffer(&mut auth, b"4.8.0");
            hello = self.frame(&auth);
        }
        // A SyncStep1 of somebody who has nothing.
        hello.extend(self.sync(0, &[0]));
        hello
    }

    /// A sync message: 0 SyncStep1, 1 SyncStep2, 2 Update.
    pub(crate) fn sync(&self, kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut message = vec![0, kind];
        write_buffer(&mut message, payload);
        self.frame(&message)
    }

    /// An awareness message.
    pub(crate) fn presence(&self, payload: &[u8]) -> Vec<u8> {
        let mut message = vec![1];
        write_buffer(&mut message, payload);
        self.frame(&message)
    }

    fn frame(&self, message: &[u8]) -> Vec<u8> {
        client_frame(0x2, &[&self.prefix, message].concat())
    }

    /// Reads one message.
    pub(crate) fn read<'a>(&self, payload: &'a [u8]) -> Result<Message<'a>, ReadError> {
        let mut reader = Reader::new(payload);
        if !self.prefix.is_empty() {
            // A single byte is Hocuspocus' ping, which wants no answer.
            if payload.len() == 1 {
                return Ok(Message::Other);
            }
            reader.buffer()?;
        }
        Ok(match reader.var_uint()? {
            0 => match reader.var_uint()? {
                0 => Message::SyncStep1,
                1 => Message::SyncStep2(reader.buffer()?),
                _ => Message::Update(reader.buffer()?),
            },
            1 => Message::Presence(reader.buffer()?),
            65 => Message::Saved(reader.var_uint()?),
            _ => Message::Other,
        })
    }
}

/// A frame of a client.
pub(crate) fn client_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 14);
    frame.push(0x80 | opcode);
    match payload.len() {
        len @ 0..=125 => frame.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// A frame of a server: its opcode, where its payload begins and where it ends.
pub(crate) fn server_frame(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (&[first, second], rest) = bytes.split_first_chunk::<2>()?;
    let (start, len) = match second & 0x7f {
        126 => (4, u64::from(u16::from_be_bytes(*rest.first_chunk()?))),
        127 => (10, u64::from_be_bytes(*rest.first_chunk()?)),
        len => (2, u64::from(len)),
    };
    let end = start + len as usize;
    (bytes.len() >= end).then_some((first & 0x0f, start, end))
}

#[test]
fn frames_are_read_as_they_were_written() {
    for len in [0, 1, 125, 126, 65_535, 65_536] {
        let written = client_frame(2, &vec![7; len]);
        // A server's frame is the same without the mask.
        let mut read = written.clone();
        let mask = written.len() - len - 4;
        read.drain(mask..mask + 4);
        read[1] &= 0x7f;
        assert_eq!(server_frame(&read), Some((2, read.len() - len, read.len())));
        assert_eq!(server_frame(&read[..read.len() - 1]), None);
    }
    let dialect = Dialect::hocuspocus("d");
    let frame = dialect.sync(2, &[1, 2, 3]);
    assert!(matches!(dialect.read(&frame[6..]), Ok(Message::Update([1, 2, 3]))));
}
