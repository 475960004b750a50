//! A full disk refuses writers, serves readers, and is forgiven when it has room again.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use syncline_tests::server::{Launch, Server};

use crate::disk::{Pair, skip, text_of};

/// A file system of 24 MiB that nobody else sees, and that is gone with this.
struct SmallDisk {
    /// Keeps it mounted until its input ends.
    keeper: Child,
    mountpoint: tempfile::TempDir,
    /// What becomes a server that sees it.
    wrapper: Vec<String>,
}

impl SmallDisk {
    /// Nothing where this is not allowed; the reason has been said.
    fn mount() -> Option<Self> {
        let mountpoint = tempfile::tempdir().unwrap();
        let all: [(&[&str], &[&str]); 2] = [
            (&["--mount"], &["--mount"]),
            (&["--mount", "--map-root-user"], &["--mount", "--user", "--preserve-credentials"]),
        ];
        let mounted = all.into_iter().find_map(|(unshare, nsenter)| {
            let mut keeper = Command::new("unshare")
                .args(unshare)
                .args(["sh", "-c", "mount -t tmpfs -o size=24m none \"$0\" && echo && exec cat"])
                .arg(mountpoint.path())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .ok()?;
            let is_mounted = keeper.stdout.take()?.read_exact(&mut [0]).is_ok();
            if !is_mounted {
                drop(keeper.wait());
            }
            is_mounted.then_some((keeper, nsenter))
        });
        let Some((keeper, nsenter)) = mounted else {
            skip("unshare --mount and mounting a tmpfs are not allowed");
            return None;
        };
        let target = format!("--target={}", keeper.id());
        let words = ["nsenter", &target].into_iter().chain(nsenter.iter().copied());
        let wrapper = words.chain(["--"]).map(str::to_owned).collect();
        Some(Self { keeper, mountpoint, wrapper })
    }

    fn start(&self) -> Server {
        let wrapper: Vec<&str> = self.wrapper.iter().map(String::as_str).collect();
        let data = self.mountpoint.path().join("data");
        let launch = Launch { wrapper: &wrapper, ..Launch::new(&data) };
        launch.start().unwrap()
    }

    fn ballast(&self) -> PathBuf {
        let seen = self.mountpoint.path().strip_prefix("/").unwrap();
        PathBuf::from(format!("/proc/{}/root", self.keeper.id())).join(seen).join("ballast")
    }

    /// Until the last byte.
    fn fill(&self) {
        let mut ballast = File::options().create(true).append(true).open(self.ballast()).unwrap();
        loop {
            match ballast.write(&[1; 4096]) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn make_room(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.keeper.kill());
        drop(self.keeper.wait());
    }
}

/// Long enough that a few of them need room of their own.
fn chunk() -> String {
    "x".repeat(2048)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disk_3_a_full_disk_is_survived_without_a_restart() {
    let Some(disk) = SmallDisk::mount() else { return };
    let mut server = disk.start();
    Pair::join(&server, "other").await.save("untouched").await;
    let mut pair = Pair::join(&server, "full").await;
    pair.save("before;").await;
    disk.fill();
    let (acknowledged, reason) = pair.write_until_refused(&server, &chunk()).await;
    assert!(reason.contains("store_unavailable"), "{reason}");
    assert!(reason.contains("No space left on device"), "{reason}");
    pair.reads_but_does_not_write(&server, &acknowledged).await;
    assert_eq!(text_of(&server, "other").await, "untouched");

    disk.make_room();
    server.until_ready_is(200).await;
    pair.writer.until("all is saved", |writer| writer.saved == writer.sent).await;
    let written = pair.writer.content();
    assert!(written.ends_with("refused"), "what was refused is kept by who wrote it");
    pair.reader.until("what was refused", |reader| reader.content() == written).await;
    server.kill();

    let server = disk.start();
    assert_eq!(text_of(&server, "full").await, written);
    assert_eq!(text_of(&server, "other").await, "untouched");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disk_4_it_starts_on_a_full_disk() {
    let Some(disk) = SmallDisk::mount() else { return };
    let mut server = disk.start();
    Pair::join(&server, "full").await.save("before;").await;
    disk.fill();
    server.kill();

    let mut server = disk.start();
    assert_eq!(text_of(&server, "full").await, "before;");
    let mut pair = Pair::join(&server, "full").await;
    let (acknowledged, reason) = pair.write_until_refused(&server, &chunk()).await;
    assert!(reason.contains("No space left on device"), "{reason}");
    pair.reads_but_does_not_write(&server, &acknowledged).await;
    // It can be stopped and started like this as well.
    server.stop("TERM");
    let server = disk.start();
    assert!(text_of(&server, "full").await.starts_with(&acknowledged));

    disk.make_room();
    Pair::join(&server, "full").await.save("after;").await;
    server.until_ready_is(200).await;
}
