//! The yardstick itself.

use std::process::Command;

use syncline_tests::server::binary;

/// Every case runs, on small numbers. What it measures then means nothing.
#[test]
fn every_measurement_still_runs() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["--smoke", "--folder"])
        .arg(folder.path())
        .env("SYNCLINE_BIN", binary())
        .output()
        .unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    for case in ["fan-out", "typing", "replay", "join", "durable"] {
        assert!(out.contains(&format!("### {case}")), "{out}\n{err}");
    }
}
