//! The peers: what is installed, and the few lines that start those that are libraries.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::failure::Failure;

const Y_SWEET: &str = "0.9.1";
const NODE_PACKAGE: &str = include_str!("peers/package.json");
const PYTHON_REQUIREMENTS: &str = include_str!("peers/requirements.txt");

/// Hocuspocus with its Database extension on SQLite.
pub(crate) const HOCUSPOCUS: &str = include_str!("peers/hocuspocus.mjs");

/// pycrdt-websocket with its SQLite store.
pub(crate) const PYCRDT: &str = include_str!("peers/relay.py");

/// Installs every peer. One that fails does not keep the others away.
pub(crate) fn install(cache: &Path) -> Result<(), Failure> {
    fs::create_dir_all(cache.join("node"))?;
    fs::write(cache.join("node/package.json"), NODE_PACKAGE)?;
    fs::create_dir_all(cache.join("python"))?;
    fs::write(cache.join("python/requirements.txt"), PYTHON_REQUIREMENTS)?;
    let steps: [(&str, &str, &[&str]); 4] = [
        (
            "y-sweet",
            "cargo",
            &["install", "--locked", "--version", Y_SWEET, "--root", "y-sweet", "y-sweet"],
        ),
        ("the Node peers", "npm", &["install", "--prefix", "node", "--no-audit", "--no-fund"]),
        ("Python", "python3", &["-m", "venv", "python"]),
        (
            "pycrdt-websocket",
            "python/bin/pip",
            &["install", "--requirement", "python/requirements.txt"],
        ),
    ];
    let mut failed = Vec::new();
    for (name, program, arguments) in steps {
        println!("== {name}");
        let status = Command::new(program).args(arguments).current_dir(cache).status();
        if !status.is_ok_and(|status| status.success()) {
            failed.push(name);
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(Failure::Install(failed.join(", "))) }
}
