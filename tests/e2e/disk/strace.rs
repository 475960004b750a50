//! Faults that `strace` puts into the system calls of a running server.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};

use syncline_tests::server::Server;

use crate::disk::skip;

/// While this lives, calls of the server fare as they were told to.
#[derive(Debug)]
pub(super) struct Faults {
    strace: Child,
    /// It tells of each new thread, and would end if nobody held the other side.
    _told: BufReader<ChildStderr>,
}

impl Faults {
    /// `what` is what follows `inject=`. Calls are counted from here on, in each thread for itself.
    /// Nothing where strace is not there and cannot be, or may not do it; the reason has been said.
    pub(super) fn inject(server: &Server, what: &str) -> Option<Self> {
        if !is_there() && !install() {
            skip("strace is not installed: apt-get install strace");
            return None;
        }
        let call = what.split(':').next().unwrap_or_default();
        let mut strace = Command::new("strace")
            .args(["--follow-forks", "--output=/dev/null"])
            .args(["-e", &format!("trace={call}"), "-e", &format!("inject={what}")])
            .arg(format!("--attach={}", server.pid()))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut told = BufReader::new(strace.stderr.take().unwrap());
        let mut first = String::new();
        told.read_line(&mut first).unwrap();
        let faults = Self { strace, _told: told };
        if first.contains("attached") {
            return Some(faults);
        }
        skip(&format!("strace cannot attach: {first}"));
        None
    }

    /// Ends them; the server goes on.
    pub(super) fn end(mut self) {
        let ended = self.strace.try_wait().unwrap();
        assert!(ended.is_none(), "strace was gone, and this test shows nothing: {ended:?}");
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        drop(self.strace.kill());
        drop(self.strace.wait());
    }
}

fn is_there() -> bool {
    succeeds(Command::new("strace").arg("-V"))
}

/// Fails where there is no apt-get, or nobody who may.
fn install() -> bool {
    let mut apt = Command::new("apt-get");
    apt.args(["install", "--yes", "--no-install-recommends", "strace"]);
    succeeds(apt.env("DEBIAN_FRONTEND", "noninteractive")) && is_there()
}

fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}
