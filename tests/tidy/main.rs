//! Rules about the shape of the repository, as tests: one for each rule, and one that shows that
//! the rule finds what it is looking for.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod code;
mod examples;
mod rules;
mod tree;

use syncline_protocol::CloseCode;

use crate::rules::*;
use crate::tree::{cargo_tree, files, paths, root};

const COMMITTED_BYTES_MAX: u64 = 1 << 20;

#[track_caller]
fn assert_none(offences: &[String]) {
    assert!(offences.is_empty(), "{}", offences.join("\n"));
}

/// Holds every file against a rule.
#[track_caller]
fn assert_all_follow(rule: fn(&tree::File) -> Vec<String>) {
    let offences: Vec<String> = files().iter().flat_map(rule).collect();
    assert_none(&offences);
}

#[test]
fn only_the_stores_cache_uses_sled() {
    assert_all_follow(sled_is_named_in_one_file);
}

#[test]
fn only_the_replica_uses_yrs() {
    assert_all_follow(yrs_is_named_in_one_file);
    let tree = cargo_tree("syncline-server", &["--depth=1"]);
    assert_none(&crates_are_absent(&tree, &["yrs"]));
}

#[test]
fn the_protocol_touches_no_world() {
    assert_all_follow(the_protocol_is_deterministic);
    let tree = cargo_tree("syncline-protocol", &[]);
    assert_none(&crates_are_absent(&tree, &["tokio", "warp", "sled", "hyper"]));
}

#[test]
fn failpoints_are_for_tests_only() {
    for package in ["syncline-server", "syncline-tests"] {
        let tree = cargo_tree(package, &["--format={p} {f}"]);
        assert!(tree.contains("syncline-protocol"), "{tree}");
        assert!(!tree.contains("failpoint"), "{package} is built with failpoints");
    }
}

#[test]
fn tests_do_not_sleep() {
    assert_all_follow(tests_wait_for_conditions);
}

#[test]
fn no_source_file_is_long() {
    assert_all_follow(sources_are_short);
}

#[test]
fn nothing_is_left_behind() {
    assert_all_follow(nothing_is_left_to_do);
}

#[test]
fn no_path_is_of_one_machine() {
    assert_all_follow(paths_are_of_no_machine);
}

#[test]
fn every_rule_has_a_test_and_every_numbered_test_a_rule() {
    assert_none(&rules_have_tests_and_tests_have_rules(&files()));
}

#[test]
fn every_promise_of_security_names_its_tests() {
    let security = std::fs::read_to_string(root().join("SECURITY.md")).unwrap();
    assert!(security.lines().any(|line| line.starts_with("| ")), "there is no table");
    assert_none(&promises_are_tested(&security, &files()));
}

#[test]
fn every_close_code_is_documented() {
    let words = CloseCode::ALL.map(CloseCode::name);
    let file = |path: &str| std::fs::read_to_string(root().join(path));
    assert_none(&words_are_explained(&file("docs/errors.md").unwrap(), &words));
    if let Ok(protocol) = file("docs/protocol.md") {
        assert_none(&words_are_mentioned(&protocol, &words));
    }
}

const MENTIONING: [&str; 3] = ["README.md", "ARCHITECTURE.md", "SECURITY.md"];

#[test]
fn the_readme_mentions_only_what_exists() {
    let exists = |path: &str| root().join(path).exists();
    for file in files().iter().filter(|file| MENTIONING.contains(&&*file.path)) {
        assert_none(&mentioned_paths_exist(file, exists));
    }
}

#[test]
fn no_committed_file_is_large() {
    let bytes = |path: &String| std::fs::metadata(root().join(path)).unwrap().len();
    let large = paths().into_iter().filter(|path| bytes(path) > COMMITTED_BYTES_MAX);
    let advice = format!("is above {COMMITTED_BYTES_MAX} bytes; fetch or generate it instead");
    assert_none(&large.map(|path| format!("{path} {advice}")).collect::<Vec<_>>());
}

#[test]
fn licences_and_locks_are_committed() {
    let paths = paths();
    let wanted = [
        "LICENSE",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "Cargo.lock",
        "client-js/package-lock.json",
        "client-js/demo/package-lock.json",
        "tests/browser/package-lock.json",
        "tests/npm/package-lock.json",
    ];
    let absent = wanted.iter().filter(|wanted| !paths.iter().any(|path| path == *wanted));
    assert_none(&absent.map(|path| format!("{path} must be committed")).collect::<Vec<_>>());
}
