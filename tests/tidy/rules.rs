//! The rules. Each takes what it judges and returns one line for each offence.

use std::collections::{BTreeMap, BTreeSet};

use crate::code::{code_of, words};
use crate::tree::File;

const SOURCE_LINES_MAX: usize = 600;

/// The only places that may spend time: they poll a condition until a deadline.
const WAITING: [&str; 1] = ["tests/npm/support/wait.mjs"];

/// Identifiers of Rust code for which `is_bad(before, word, after)`.
fn offending_words(
    file: &File,
    advice: &str,
    is_bad: impl Fn(&str, &str, &str) -> bool,
) -> Vec<String> {
    let code = code_of(&file.text);
    let mut offences = Vec::new();
    for (index, line) in code.lines().enumerate() {
        for (before, word, after) in words(line) {
            if is_bad(before, word, after) {
                offences.push(format!("{}:{}: {word}: {advice}", file.path, index + 1));
            }
        }
    }
    offences
}

pub(crate) fn sled_is_named_in_one_file(file: &File) -> Vec<String> {
    if !file.has_extension(&["rs"]) || file.path == "server/src/store/embedded/cache.rs" {
        return vec![];
    }
    let advice = "only server/src/store/embedded/cache.rs uses the crate sled; name that module by \
                  `store::sled`";
    offending_words(file, advice, |before, word, _| {
        let is_our_module = ["store::", "super::", "self::"].iter().any(|p| before.ends_with(p))
            || before.trim_end().ends_with("mod");
        word == "sled" && !is_our_module
    })
}

pub(crate) fn yrs_is_named_in_one_file(file: &File) -> Vec<String> {
    let is_product = file.is_in("server/") || file.is_in("protocol/src/");
    if !file.has_extension(&["rs"]) || !is_product || file.path.ends_with("document/replica.rs") {
        return vec![];
    }
    let advice = "only protocol/src/document/replica.rs uses yrs; ask it";
    offending_words(file, advice, |_, word, _| word == "yrs")
}

pub(crate) fn the_protocol_is_deterministic(file: &File) -> Vec<String> {
    if !file.has_extension(&["rs"]) || !file.is_in("protocol/src/") {
        return vec![];
    }
    let advice = "protocol/ computes the same anywhere: time and randomness are arguments, maps \
                  are ordered, and nothing waits";
    offending_words(file, advice, |before, word, _| match word {
        "async" | "await" | "SystemTime" | "HashMap" | "HashSet" => true,
        "now" => before.ends_with("Instant::"),
        "sleep" => before.ends_with("thread::"),
        _ => false,
    })
}

/// `tree`: the crates that a package is built from, one a line, the package itself first.
pub(crate) fn crates_are_absent(tree: &str, forbidden: &[&str]) -> Vec<String> {
    let names = tree.lines().filter_map(|line| line.split_whitespace().next());
    let found: BTreeSet<&str> = names.filter(|name| forbidden.contains(name)).collect();
    let package = tree.split_whitespace().next().unwrap_or_default();
    found.into_iter().map(|name| format!("{package} must do without the crate {name}")).collect()
}

pub(crate) fn tests_wait_for_conditions(file: &File) -> Vec<String> {
    let is_test = file.is_in("tests/") || file.path.contains("/tests/");
    if !is_test || WAITING.contains(&&*file.path) || !file.has_extension(&["rs", "mjs", "js", "ts"])
    {
        return vec![];
    }
    let advice =
        "wait for a condition, with a deadline (Client::until, tests/npm/support/wait.mjs)";
    offending_words(file, advice, |_, word, after| match word {
        "sleep" | "sleep_until" => after.starts_with('('),
        "setTimeout" => true,
        _ => false,
    })
}

pub(crate) fn sources_are_short(file: &File) -> Vec<String> {
    let lines = file.text.lines().count();
    if lines <= SOURCE_LINES_MAX || !file.has_extension(&["rs", "mjs", "js", "ts", "css", "sh"]) {
        return vec![];
    }
    vec![format!("{}: {lines} lines; split it, {SOURCE_LINES_MAX} are the most", file.path)]
}

pub(crate) fn nothing_is_left_to_do(file: &File) -> Vec<String> {
    let mut offences = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        for (_, word, after) in words(line) {
            if ["TODO", "FIXME", "XXX"].contains(&word)
                || (word == "dbg" && after.starts_with("!("))
            {
                let advice = "do it now, or open an issue";
                offences.push(format!("{}:{}: {word}: {advice}", file.path, index + 1));
            }
        }
    }
    offences
}

pub(crate) fn paths_are_of_no_machine(file: &File) -> Vec<String> {
    let mut offences = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        for folder in ["/work/", "/root/", "/home/", "/Users/"] {
            let begins_a_path = |(at, _)| {
                let before: &str = &line[..at];
                !before.ends_with(|c: char| c.is_alphanumeric() || "._-/~$}>".contains(c))
            };
            if line.match_indices(folder).any(begins_a_path) {
                let advice = "a path of one machine; make it relative or an argument";
                offences.push(format!("{}:{}: {folder}: {advice}", file.path, index + 1));
            }
        }
    }
    offences
}

/// The ids that a specification defines: at the start of a table's row, a list's item or a
/// heading.
fn rules_of(spec: &str) -> impl Iterator<Item = &str> {
    spec.lines().filter_map(|line| {
        let marks = ["| ", "| **", "- **", "**", "## ", "### ", "#### "];
        let is_id_char = |c: char| c.is_ascii_alphanumeric() || c == '-';
        marks.iter().find_map(|mark| {
            let rest = line.strip_prefix(mark)?;
            let id = &rest[..rest.find(|c| !is_id_char(c)).unwrap_or(rest.len())];
            let (area, number) = id.split_once('-')?;
            let is_id = !area.is_empty()
                && area.chars().all(|c| c.is_ascii_uppercase())
                && number.parse::<u32>().is_ok();
            is_id.then_some(id)
        })
    })
}

/// The names of functions in Rust code, and of what is passed to `test(` in JavaScript.
fn test_names(file: &File) -> Vec<String> {
    if file.has_extension(&["rs"]) {
        let code = code_of(&file.text);
        let functions = code.lines().flat_map(words).filter(|(before, ..)| before.ends_with("fn "));
        return functions.map(|(_, name, _)| name.to_owned()).collect();
    }
    if !file.has_extension(&["mjs", "js", "ts"]) {
        return vec![];
    }
    let calls = file.text.split("test(").skip(1);
    let names = calls.filter_map(|call| call.get(1..)?.split(['\'', '"', '`', '\n']).next());
    names.flat_map(str::split_whitespace).map(str::to_owned).collect()
}

/// A rule `AREA-12` is tested where a test's name begins with `area_12_`.
pub(crate) fn rules_have_tests_and_tests_have_rules(files: &[File]) -> Vec<String> {
    let is_spec = |file: &&File| file.is_in("docs/spec") && file.has_extension(&["md"]);
    let mut rules: BTreeMap<String, &str> = BTreeMap::new();
    let mut offences = Vec::new();
    for spec in files.iter().filter(is_spec) {
        for rule in rules_of(&spec.text) {
            let id = rule.to_lowercase().replace('-', "_");
            if let Some(other) = rules.insert(id, &spec.path) {
                offences.push(format!("{}: {rule} is taken by {other}; renumber it", spec.path));
            }
        }
    }
    let area_of = |id: &str| id.split('_').next().unwrap_or_default().to_owned();
    let areas: BTreeSet<String> = rules.keys().map(|id| area_of(id)).collect();
    let mut tested = BTreeSet::new();
    for file in files {
        for name in test_names(file) {
            let mut parts = name.splitn(3, '_');
            let (Some(area), Some(number), Some(_)) = (parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            if !areas.contains(area) || number.parse::<u32>().is_err() {
                continue;
            }
            let id = format!("{area}_{number}");
            if !rules.contains_key(&id) {
                let advice = "no such rule in docs/spec*.md; write it down or rename the test";
                offences.push(format!("{}: {name}: {advice}", file.path));
            }
            tested.insert(id);
        }
    }
    let untested = rules.iter().filter(|(id, _)| !tested.contains(*id));
    offences.extend(untested.map(|(id, spec)| {
        let rule = id.to_uppercase().replace('_', "-");
        format!("{spec}: {rule} has no test; name one {id}_what_it_says")
    }));
    offences
}

/// A line of a table in `SECURITY.md` is a promise, and names tests that exist.
pub(crate) fn promises_are_tested(security: &str, files: &[File]) -> Vec<String> {
    let tests: BTreeSet<String> = files.iter().flat_map(test_names).collect();
    let mut offences = Vec::new();
    for (index, line) in security.lines().enumerate() {
        let Some(cells) = line.strip_prefix('|') else { continue };
        let named = cells.split('|').nth(1).unwrap_or_default();
        if named.trim() == "Test" || named.starts_with('-') {
            continue;
        }
        let mut names = named.split('`').skip(1).step_by(2).peekable();
        let place = format!("SECURITY.md:{}", index + 1);
        if names.peek().is_none() {
            offences.push(format!("{place}: a promise without a test"));
        }
        let absent = names.filter(|name| !tests.contains(*name));
        offences.extend(absent.map(|name| format!("{place}: there is no test {name}")));
    }
    offences
}

/// Each word has a heading.
pub(crate) fn words_are_explained(errors: &str, words: &[&str]) -> Vec<String> {
    let headings: BTreeSet<&str> =
        errors.lines().filter_map(|line| line.strip_prefix("## ")).map(str::trim).collect();
    let is_absent = |word: &&&str| !headings.contains(**word);
    let absent = words.iter().filter(is_absent);
    absent.map(|word| format!("docs/errors.md: add `## {word}`: cause and cure")).collect()
}

/// One list is enough: a link to it will do.
pub(crate) fn words_are_mentioned(protocol: &str, words: &[&str]) -> Vec<String> {
    if protocol.contains("(errors.md)") {
        return vec![];
    }
    let is_absent = |word: &&&str| !protocol.contains(&format!("`{word}`"));
    let absent = words.iter().filter(is_absent);
    absent.map(|word| format!("docs/protocol.md: add `{word}` to the close codes")).collect()
}

/// `exists` answers for a path from the root.
pub(crate) fn mentioned_paths_exist(file: &File, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let is_path_char = |c: char| c.is_ascii_alphanumeric() || "_./-".contains(c);
    let mut offences = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        let mut rest = line;
        while let Some(start) = rest.find(is_path_char) {
            let end = rest[start..].find(|c| !is_path_char(c)).map_or(rest.len(), |at| start + at);
            let path = rest[start..end].trim_start_matches("./").trim_end_matches('.');
            rest = &rest[end..];
            let is_pattern = rest.starts_with(['*', '{', '<', '…', '[']);
            let is_ours = path.starts_with("docs/") || path.starts_with("tests/");
            if is_ours && !is_pattern && !exists(path) {
                offences.push(format!("{}:{}: {path} does not exist", file.path, index + 1));
            }
        }
    }
    offences
}
