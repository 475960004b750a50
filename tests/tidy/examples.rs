//! What each rule must find, and what it must let pass.

use crate::rules::*;
use crate::tree::File;

/// `rule` finds exactly `offences` in a file of the given path and text.
#[track_caller]
fn check(rule: impl Fn(&File) -> Vec<String>, path: &str, text: &str, offences: usize) {
    let found = rule(&File::new(path, text));
    assert_eq!(found.len(), offences, "{path}: {text}\n{found:#?}");
}

#[test]
fn sled_outside_its_file_is_found() {
    let rule = sled_is_named_in_one_file;
    for bad in ["use sled::Db;", "use ::sled::Db;", "extern crate sled;", "fn f(_: sled::Db) {}"] {
        check(rule, "server/src/store/embedded.rs", bad, 1);
        check(rule, "server/src/store/embedded/cache.rs", bad, 0);
    }
    for good in ["use crate::store::sled::SnapshotCache;", "mod sled;", "// sled::Db", "\"sled\""] {
        check(rule, "server/src/store/embedded.rs", good, 0);
    }
}

#[test]
fn yrs_outside_its_file_is_found() {
    let rule = yrs_is_named_in_one_file;
    for path in ["server/src/document/hub.rs", "protocol/src/validate.rs"] {
        check(rule, path, "use yrs::Doc;", 1);
        check(rule, path, "/// yrs reads it.", 0);
    }
    check(rule, "protocol/src/document/replica.rs", "use yrs::Doc;", 0);
    check(rule, "protocol/tests/validate/main.rs", "use yrs::Doc;", 0);
}

#[test]
fn clocks_and_waiting_in_the_protocol_are_found() {
    let rule = the_protocol_is_deterministic;
    for bad in [
        "async fn f() {}",
        "std::time::Instant::now()",
        "std::time::SystemTime::UNIX_EPOCH",
        "std::thread::sleep(d)",
        "use std::collections::HashMap;",
    ] {
        check(rule, "protocol/src/validate.rs", bad, 1);
        check(rule, "server/src/document/hub.rs", bad, 0);
    }
    check(rule, "protocol/src/validate.rs", "// a HashMap, async", 0);
    check(rule, "protocol/src/validate.rs", "fn f(now: Time) {}", 0);
}

#[test]
fn forbidden_crates_are_found() {
    let tree = "syncline-protocol v0.1.0 (/somewhere)\nyrs v0.28.1\ntokio v1.54.1\ntokio v1 (*)\n";
    let found = crates_are_absent(tree, &["tokio", "warp"]);
    assert_eq!(found, ["syncline-protocol must do without the crate tokio"]);
    assert!(crates_are_absent("a v1\ntokio-util v1\n", &["tokio"]).is_empty());
}

#[test]
fn sleeping_in_tests_is_found() {
    let rule = tests_wait_for_conditions;
    check(rule, "tests/e2e/slow.rs", "tokio::time::sleep(d).await;", 1);
    check(rule, "protocol/tests/validate/main.rs", "std::thread::sleep(d);", 1);
    check(rule, "tests/npm/idle.test.mjs", "await new Promise(r => setTimeout(r, 500))", 1);
    check(rule, "tests/npm/support/wait.mjs", "import { setTimeout as pause } from 'x'", 0);
    check(rule, "server/src/net/listener.rs", "tokio::time::sleep(d).await;", 0);
    check(rule, "tests/e2e/slow.rs", "// never sleep(", 0);
}

#[test]
fn long_files_are_found() {
    check(sources_are_short, "server/src/document/hub.rs", &"\n".repeat(601), 1);
    check(sources_are_short, "server/src/document/hub.rs", &"\n".repeat(600), 0);
    check(sources_are_short, "docs/protocol.md", &"\n".repeat(601), 0);
}

#[test]
fn leftovers_are_found() {
    for bad in ["// TODO: this", "<!-- FIXME -->", "XXX", "dbg!(x)"] {
        check(nothing_is_left_to_do, "README.md", bad, 1);
    }
    for good in ["{ todo: 'yrs' }", "mktemp XXXXXX", "let dbg = 1;"] {
        check(nothing_is_left_to_do, "README.md", good, 0);
    }
}

#[test]
fn paths_of_a_machine_are_found() {
    let rule = paths_are_of_no_machine;
    for bad in ["/work/x", "cd /root/.cargo", "PATH=/home/me", "\"/Users/me\""] {
        check(rule, "README.md", bad, 1);
    }
    for good in
        ["/root-of-image/data", "docs/work/x", "https://a.b/home/", "~/work/x", "$HOME/work/"]
    {
        check(rule, "README.md", good, 0);
    }
}

#[test]
fn rules_without_tests_and_tests_without_rules_are_found() {
    let spec =
        "| Id | Rule |\n| SYNC-1 | a |\n| SYNC-2 | b |\n- **STORE-1** c\nUTF-8 is no rule.\n";
    let found = |tests: &[(&str, &str)]| {
        let mut files = vec![File::new("docs/spec.md", spec)];
        files.extend(tests.iter().map(|(path, text)| File::new(path, text)));
        rules_have_tests_and_tests_have_rules(&files)
    };
    let rust = "#[test]\nfn sync_1_a() {}\nfn store_1_c() {}\n// fn sync_2_b() {}";
    let untested = found(&[("tests/a.rs", rust)]);
    assert_eq!(untested, ["docs/spec.md: SYNC-2 has no test; name one sync_2_what_it_says"]);
    let node = "test('sync_2_b', async t => {";
    assert!(found(&[("tests/a.rs", rust), ("tests/npm/b.test.mjs", node)]).is_empty());
    let twice = found(&[("tests/a.rs", rust), ("docs/spec-b.md", "### STORE-1\n| SYNC-2 | b |")]);
    assert_eq!(twice.iter().filter(|line| line.contains("taken by docs/spec.md")).count(), 2);
    let unknown = "fn sync_2_b() {}\nfn sync_3_c() {}\nfn utf_8_is_no_area() {}";
    let found = found(&[("tests/a.rs", rust), ("tests/b.rs", unknown)]);
    assert!(matches!(&*found, [one] if one.starts_with("tests/b.rs: sync_3_c: ")), "{found:?}");
}

#[test]
fn promises_without_tests_are_found() {
    let security = "| Promise | Test |\n|---|---|\n| a | `sync_1_a`, `gone_1_a` |\n| b | none |\n";
    let tests = [File::new("tests/a.rs", "#[test]\nfn sync_1_a() {}\n// fn gone_1_a() {}")];
    let found = promises_are_tested(security, &tests);
    let wanted =
        ["SECURITY.md:3: there is no test gone_1_a", "SECURITY.md:4: a promise without a test"];
    assert_eq!(found, wanted);
}

#[test]
fn undocumented_words_are_found() {
    let errors = "# Errors\n\n## bad_frame\n\nNot bad_request.\n";
    let words = ["bad_frame", "bad_request"];
    let found = words_are_explained(errors, &words);
    assert!(matches!(&*found, [one] if one.contains("bad_request")), "{found:?}");
    assert_eq!(words_are_mentioned("only `bad_frame`", &words).len(), 1);
    assert!(words_are_mentioned("[why](errors.md)", &words).is_empty());
}

#[test]
fn paths_that_do_not_exist_are_found() {
    let rule = |file: &File| mentioned_paths_exist(file, |path| path == "docs/errors.md");
    for bad in ["see docs/gone.md.", "[x](docs/gone.md#y)", "`tests/gone/`", "./docs/gone"] {
        check(rule, "README.md", bad, 1);
    }
    let goods = [
        "see docs/errors.md.",
        "[x](docs/errors.md#y)",
        "https://docs.rs/tests/a",
        "docs/spec*.md",
    ];
    for good in goods {
        check(rule, "README.md", good, 0);
    }
}
