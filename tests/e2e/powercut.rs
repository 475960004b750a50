//! A short run of `endure` on a disk that forgets (tests/powercut), and one on a disk that lies.

use std::process::{Command, Output};

use serde_json::Value;
use syncline_tests::server::binary;

const SKIPPED: i32 = 77;

/// The exit code and the figures, or nothing when it cannot run here.
#[expect(clippy::print_stderr, reason = "whoever runs the tests has to know what was skipped")]
fn cut_power(flags: &[&str]) -> Option<(i32, Value, String)> {
    let mut endure = Command::new(env!("CARGO_BIN_EXE_endure"));
    endure.arg("power-cut").args(flags).env("SYNCLINE_BIN", binary());
    let Output { status, stdout, stderr } = endure.output().unwrap();
    let told = String::from_utf8(stderr).unwrap();
    if status.code() == Some(SKIPPED) {
        eprintln!("{told}");
        return None;
    }
    let figures = serde_json::from_slice(&stdout).unwrap_or_else(|_| panic!("{status}: {told}"));
    Some((status.code().expect("no signal"), figures, told))
}

#[test]
fn run_2_a_power_cut_loses_nothing_that_was_acknowledged() {
    let Some((code, figures, told)) = cut_power(&["--rounds", "3"]) else { return };
    assert_eq!(code, 0, "{figures}\n{told}");
    assert!(figures["acknowledged"].as_u64() > Some(3), "this test shows nothing: {figures}");
}

/// On a disk that does nothing on `fsync` something must be lost: else the test above could not
/// tell.
#[test]
fn run_2_the_power_cut_would_show_a_loss() {
    let Some((code, figures, told)) = cut_power(&["--rounds", "1", "--lie"]) else { return };
    assert_eq!(code, 1, "{figures}\n{told}");
    assert!(figures["lost"].as_u64() > Some(0), "{figures}");
}
