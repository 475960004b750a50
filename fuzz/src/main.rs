//! libFuzzer with one of the targets, which the environment names. `fuzz/run` starts it.
#![no_main]

#[path = "../targets/mod.rs"]
mod targets;
#[cfg(feature = "token")]
#[path = "../targets/token.rs"]
mod token;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("SYNCLINE_FUZZ").expect("SYNCLINE_FUZZ names the target");
    #[cfg(feature = "token")]
    if name == "token" {
        return token::run;
    }
    let found = targets::ALL.iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("there is no target {name}")).1
});

fuzz_target!(|data: &[u8]| TARGET(data));
