//! One client's connection, without a document: it answers what a server wants answered and hands
//! on the rest.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use mio::net::TcpStream;
use socket2::SockRef;

use crate::wire::{Dialect, Message, client_frame, server_frame};

/// A document on a server, and how to get there.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) path: String,
    pub(crate) subprotocol: Option<&'static str>,
    pub(crate) dialect: Dialect,
    /// What the client has when it connects; an update.
    pub(crate) brings: Rc<[u8]>,
}

/// An update without content.
pub(crate) const NOTHING: [u8; 2] = [0, 0];

/// Takes in what arrives.
pub(crate) trait Receive {
    /// `at` is the number of the connection.
    fn receive(&mut self, at: usize, message: Message<'_>, now: Instant);
}

/// Where the connection stands.
#[derive(Debug, PartialEq, Eq)]
enum State {
    Connecting,
    Upgrading,
    Open,
}

/// Whether a client reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    On,
    Stalled,
}

/// What became of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Open,
    /// The first SyncStep2 arrived just now.
    Joined,
    Ended,
}

#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) stream: TcpStream,
    state: State,
    request: String,
    dialect: Dialect,
    brings: Rc<[u8]>,
    inbound: Vec<u8>,
    outbound: Vec<u8>,
    joined: bool,
    /// Whether what arrives is left where it is.
    pub(crate) reading: Reading,
    /// Update frames sent, SyncStep2 included.
    pub(crate) updates_sent: u64,
    pub(crate) received_bytes: u64,
}

impl Socket {
    pub(crate) fn connect(target: &Target) -> io::Result<Self> {
        let stream = TcpStream::connect(target.address)?;
        stream.set_nodelay(true)?;
        let subprotocol = target
            .subprotocol
            .map(|name| format!("sec-websocket-protocol: {name}\r\n"))
            .unwrap_or_default();
        let request = format!(
            "GET {} HTTP/1.1\r\nhost: {}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             {subprotocol}\r\n",
            target.path, target.address
        );
        Ok(Self {
            stream,
            state: State::Connecting,
            request,
            dialect: target.dialect.clone(),
            brings: Rc::clone(&target.brings),
            inbound: Vec::new(),
            outbound: Vec::new(),
            joined: false,
            reading: Reading::On,
            updates_sent: 0,
            received_bytes: 0,
        })
    }

    /// Makes the kernel keep little of what is not read.
    pub(crate) fn keep_little(&self) -> io::Result<()> {
        SockRef::from(&self.stream).set_recv_buffer_size(64 * 1_024)
    }

    /// Sends bytes, or keeps what the kernel does not take for later.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        if !self.outbound.is_empty() {
            self.outbound.extend(bytes);
            return;
        }
        // An error ends the connection at the next read.
        let written = self.stream.write(bytes).unwrap_or(0);
        self.outbound.extend(&bytes[written..]);
    }

    pub(crate) fn writable(&mut self) -> Outcome {
        if self.state == State::Connecting {
            if matches!(self.stream.take_error(), Ok(Some(_)) | Err(_)) {
                return Outcome::Ended;
            }
            if self.stream.peer_addr().is_err() {
                return Outcome::Open;
            }
            self.state = State::Upgrading;
            self.outbound = std::mem::take(&mut self.request).into_bytes();
        }
        while !self.outbound.is_empty() {
            match self.stream.write(&self.outbound) {
                Ok(written) => drop(self.outbound.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return Outcome::Ended,
            }
        }
        Outcome::Open
    }

    /// Reads what there is. With `to_the_end` a short read does not mean that nothing is left.
    pub(crate) fn readable<R: Receive>(
        &mut self,
        at: usize,
        scratch: &mut [u8],
        to_the_end: bool,
        receiver: &mut R,
    ) -> Outcome {
        let was_joined = self.joined;
        loop {
            match self.stream.read(scratch) {
                Ok(0) => return Outcome::Ended,
                Ok(read) => {
                    self.received_bytes += read as u64;
                    if self.feed(at, &scratch[..read], receiver) == Outcome::Ended {
                        return Outcome::Ended;
                    }
                    // Edge-triggered: what comes after a short read is announced again.
                    if read < scratch.len() && !to_the_end {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Outcome::Ended,
            }
        }
        if self.joined && !was_joined { Outcome::Joined } else { Outcome::Open }
    }

    fn feed<R: Receive>(&mut self, at: usize, bytes: &[u8], receiver: &mut R) -> Outcome {
        if self.inbound.is_empty() {
            let Some(taken) = self.take(at, bytes, receiver) else { return Outcome::Ended };
            self.inbound.extend(&bytes[taken..]);
        } else {
            let mut inbound = std::mem::take(&mut self.inbound);
            inbound.extend(bytes);
            let Some(taken) = self.take(at, &inbound, receiver) else { return Outcome::Ended };
            inbound.drain(..taken);
            self.inbound = inbound;
        }
        Outcome::Open
    }

    /// Takes whole frames; returns how many bytes they were, or None at the end.
    fn take<R: Receive>(&mut self, at: usize, bytes: &[u8], receiver: &mut R) -> Option<usize> {
        let now = Instant::now();
        let mut taken = 0;
        if self.state == State::Upgrading {
            let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
                return Some(0);
            };
            if !bytes.starts_with(b"HTTP/1.1 101") {
                return None;
            }
            taken = end + 4;
            self.state = State::Open;
            let hello = self.dialect.hello();
            self.send(&hello);
        }
        while let Some((opcode, start, end)) = server_frame(&bytes[taken..]) {
            let payload = &bytes[taken + start..taken + end];
            taken += end;
            match opcode {
                0x2 => {
                    let Ok(message) = self.dialect.read(payload) else {
                        eprintln!("unreadable: {payload:02x?}");
                        return None;
                    };
                    self.answer(message);
                    receiver.receive(at, message, now);
                }
                0x8 => return None,
                0x9 => self.send(&client_frame(0xa, payload)),
                _ => {}
            }
        }
        Some(taken)
    }

    fn answer(&mut self, message: Message<'_>) {
        match message {
            Message::SyncStep1 => {
                let answer = self.dialect.sync(1, &self.brings);
                self.send(&answer);
                self.updates_sent += 1;
            }
            Message::SyncStep2(_) => self.joined = true,
            Message::Update(_) | Message::Presence(_) | Message::Saved(_) | Message::Other => {}
        }
    }
}
