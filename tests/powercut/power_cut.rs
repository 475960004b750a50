//! The power goes, again and again.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use syncline_tests::Random;
use syncline_tests::lives::{Lives, UpdateOutcome, endure};
use syncline_tests::server::Server;

use crate::image::{Forgotten, Survival};
use crate::report::Report;
use crate::volatile_fs::Disk;
use crate::{PowerCut, broken, runtime, skip};

/// Set where what is mounted goes with this process.
const HAS_OWN_MOUNTS: &str = "SYNCLINE_ENDURE_HAS_OWN_MOUNTS";

pub(crate) fn run(cut: PowerCut) -> ExitCode {
    if std::env::var_os(HAS_OWN_MOUNTS).is_none() {
        return in_own_mounts();
    }
    let PowerCut { rounds, lie } = cut;
    let lives = Lives::from(rounds);
    let report = Report::begin(if lie { "power-cut --lie" } else { "power-cut" }, lives);
    let disk = match Disk::new(!lie) {
        Ok(disk) => disk,
        Err(error) => return skip(&format!("a file system of our own cannot be mounted: {error}")),
    };
    let mut fate =
        Cut { disk, random: Random::new(lives.seed), cuts: 0, forgotten: Forgotten::default() };
    let outcome = runtime().and_then(|runtime| runtime.block_on(endure(lives, &mut fate)));
    match outcome {
        Ok(outcome) => {
            let Forgotten { pages, names } = fate.forgotten;
            report.forgotten(pages, names).publish(&outcome)
        }
        Err(error) => broken(&error),
    }
}

/// Starts this program again where nobody else sees what it mounts, and where that is gone when the
/// program is, however it ends.
fn in_own_mounts() -> ExitCode {
    if !Path::new("/dev/fuse").exists() {
        return skip("there is no /dev/fuse");
    }
    let works = |flags: &[&str]| {
        let mut unshare = Command::new("unshare");
        unshare.args(flags).arg("true").stderr(Stdio::null());
        unshare.status().is_ok_and(|status| status.success())
    };
    let all: [&[&str]; 2] = [&["--mount"], &["--mount", "--map-root-user"]];
    let Some(flags) = all.into_iter().find(|flags| works(flags)) else {
        return skip("unshare --mount is not allowed");
    };
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return broken(&error),
    };
    let mut again = Command::new("unshare");
    again.args(flags).arg("--").arg(program).args(std::env::args_os().skip(1));
    if std::env::var_os("SYNCLINE_TEST_LOG").is_none() {
        // Each cut is a failed write to the server, and it says so.
        again.env("SYNCLINE_TEST_LOG", "off");
    }
    broken(&again.env(HAS_OWN_MOUNTS, "yes").exec())
}

struct Cut {
    disk: Disk,
    random: Random,
    cuts: usize,
    forgotten: Forgotten,
}

impl UpdateOutcome for Cut {
    fn folder(&self) -> PathBuf {
        self.disk.folder()
    }

    /// The disk goes before the process does: what that still hears from it is an error.
    fn strike(&mut self, server: &mut Server) -> io::Result<()> {
        let survival = Survival::ALL[self.cuts % Survival::ALL.len()];
        self.cuts += 1;
        let (dark, forgotten) = self.disk.cut_power(survival, &mut self.random);
        self.forgotten.pages += forgotten.pages;
        self.forgotten.names += forgotten.names;
        server.kill();
        self.disk.restore_power(dark)
    }
}
