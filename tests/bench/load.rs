//! All clients of one measurement, on one thread: it must not be the bottleneck.

use std::io;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use crate::failure::Failure;
use crate::socket::{Outcome, Reading, Receive, Socket, Target};

/// Handshakes under way at a time, fewer than any server's backlog.
const JOINING: usize = 128;

/// How long anything may stand still.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The clients.
#[derive(Debug)]
pub(crate) struct Load {
    poll: Poll,
    events: Events,
    sockets: Vec<Socket>,
    scratch: Vec<u8>,
    /// How many have been given the document.
    pub(crate) joined: usize,
    /// How many the server has hung up on.
    pub(crate) ended: usize,
}

impl Load {
    pub(crate) fn new() -> Result<Self, Failure> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(4_096),
            sockets: Vec::new(),
            scratch: vec![0; 256 * 1_024],
            joined: 0,
            ended: 0,
        })
    }

    /// Begins to connect; returns the number of the connection.
    pub(crate) fn open(&mut self, target: &Target) -> Result<usize, Failure> {
        let mut socket = Socket::connect(target)?;
        let at = self.sockets.len();
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut socket.stream, Token(at), interest)?;
        self.sockets.push(socket);
        Ok(at)
    }

    /// Opens connections, a bounded number at a time, and waits until each has its document.
    pub(crate) fn join_all<'a, R: Receive>(
        &mut self,
        targets: impl IntoIterator<Item = &'a Target>,
        receiver: &mut R,
    ) -> Result<(), Failure> {
        for target in targets {
            self.open(target)?;
            if self.unfinished() >= JOINING {
                self.until("a handshake", receiver, |load, _| load.unfinished() < JOINING)?;
            }
        }
        self.until("the last handshakes", receiver, |load, _| load.unfinished() == 0)?;
        if self.ended > 0 {
            return Err(Failure::Cut { ended: self.ended, all: self.sockets.len() });
        }
        Ok(())
    }

    fn unfinished(&self) -> usize {
        (self.sockets.len() - self.joined).saturating_sub(self.ended)
    }

    pub(crate) fn socket(&mut self, at: usize) -> &mut Socket {
        &mut self.sockets[at]
    }

    pub(crate) fn len(&self) -> usize {
        self.sockets.len()
    }

    pub(crate) fn received_bytes(&self) -> u64 {
        self.sockets.iter().map(|socket| socket.received_bytes).sum()
    }

    /// Sends an update's frame.
    pub(crate) fn send_update(&mut self, at: usize, frame: &[u8]) {
        let socket = &mut self.sockets[at];
        socket.updates_sent += 1;
        socket.send(frame);
    }

    /// Reads on after a stall.
    pub(crate) fn resume<R: Receive>(
        &mut self,
        at: usize,
        receiver: &mut R,
    ) -> Result<(), Failure> {
        let socket = &mut self.sockets[at];
        socket.reading = Reading::On;
        if socket.readable(at, &mut self.scratch, true, receiver) == Outcome::Ended {
            self.ended += 1;
            self.poll.registry().deregister(&mut socket.stream)?;
        }
        Ok(())
    }

    /// Waits for something to arrive, and takes it in.
    pub(crate) fn turn<R: Receive>(
        &mut self,
        wait: Duration,
        receiver: &mut R,
    ) -> Result<(), Failure> {
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &self.events {
            let at = event.token().0;
            let socket = &mut self.sockets[at];
            let mut outcome = Outcome::Open;
            if event.is_writable() {
                outcome = socket.writable();
            }
            if event.is_readable() && outcome != Outcome::Ended && socket.reading == Reading::On {
                let to_the_end = event.is_read_closed();
                outcome = socket.readable(at, &mut self.scratch, to_the_end, receiver);
            }
            match outcome {
                Outcome::Open => {}
                Outcome::Joined => self.joined += 1,
                Outcome::Ended => {
                    self.ended += 1;
                    self.poll.registry().deregister(&mut socket.stream)?;
                }
            }
        }
        Ok(())
    }

    /// Takes in what arrives until `done`, or fails after [`PATIENCE`].
    pub(crate) fn until<R: Receive>(
        &mut self,
        what: &'static str,
        receiver: &mut R,
        done: impl Fn(&Self, &R) -> bool,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        while !done(self, receiver) {
            if Instant::now() > deadline {
                let (joined, all, ended) = (self.joined, self.sockets.len(), self.ended);
                let state = format!("{joined} of {all} joined, {ended} ended");
                return Err(Failure::Timeout { what, seconds: PATIENCE.as_secs(), state });
            }
            self.turn(Duration::from_millis(100), receiver)?;
        }
        Ok(())
    }

    /// Takes in what arrives for a while.
    pub(crate) fn rest<R: Receive>(
        &mut self,
        how_long: Duration,
        receiver: &mut R,
    ) -> Result<(), Failure> {
        let end = Instant::now() + how_long;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            self.turn(left, receiver)?;
        }
        Ok(())
    }
}
