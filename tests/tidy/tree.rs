//! The files of the repository, and what cargo knows about its packages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A text file. Its path is relative to the root and separated by slashes.
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// Whether it lies in `folder`, given with a slash at its end.
    pub(crate) fn is_in(&self, folder: &str) -> bool {
        self.path.starts_with(folder)
    }

    pub(crate) fn has_extension(&self, extensions: &[&str]) -> bool {
        self.path.rsplit_once('.').is_some_and(|(_, extension)| extensions.contains(&extension))
    }
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The paths of all files that are committed or about to be.
pub(crate) fn paths() -> Vec<String> {
    let listed = Command::new("git")
        .args(["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others"])
        .arg("--exclude-standard")
        .current_dir(root())
        .output();
    let mut paths: Vec<String> = match listed {
        Ok(output) if output.status.success() => {
            let names = String::from_utf8(output.stdout).expect("paths are UTF-8");
            names.split_terminator('\0').map(str::to_owned).collect()
        }
        // An archive without its history.
        _ => walk(&root(), ""),
    };
    paths.retain(|path| root().join(path).is_file());
    paths.sort();
    paths.dedup();
    assert!(paths.iter().any(|path| path == "Cargo.toml"), "{paths:?}");
    paths
}

fn walk(folder: &Path, prefix: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().expect("paths are UTF-8");
        let path = format!("{prefix}{name}");
        if !entry.file_type().unwrap().is_dir() {
            paths.push(path);
        } else if ![".git", "target", "node_modules", "syncline-data"].contains(&&*name) {
            paths.extend(walk(&entry.path(), &format!("{path}/")));
        }
    }
    paths
}

/// All text files but the locks, and but these tests, whose examples break every rule.
pub(crate) fn files() -> Vec<File> {
    let is_ours = |path: &String| {
        !path.ends_with("Cargo.lock")
            && !path.ends_with("package-lock.json")
            && !path.starts_with("tests/tidy/")
    };
    let read = |path| fs::read_to_string(root().join(&path)).ok().map(|text| File { path, text });
    paths().into_iter().filter(is_ours).filter_map(read).collect()
}

/// The crates that `package` is built from, one a line; `--depth=1` leaves out theirs.
pub(crate) fn cargo_tree(package: &str, options: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--edges=normal", "--prefix=none"])
        .args(["--package", package])
        .args(options)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
