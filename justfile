# `just` lists the recipes: https://just.systems

_list:
    @just --list --unsorted

# Serve on 127.0.0.1:4000 with a generated secret, data in ./syncline-data
dev *flags:
    cargo run --locked --bin syncline -- dev {{flags}}

# Everything that has to pass
test *flags:
    ./test {{flags}}

# Format, then lint
check:
    cargo fmt --all
    cargo clippy --workspace --all-targets --locked -- -D warnings

# The Rust tests whose names contain a word
only word:
    cargo build --workspace --all-targets --locked
    cargo nextest run --workspace --locked {{word}}

# The simulation, from one seed
sim seed:
    SYNCLINE_SIM_SEED={{seed}} cargo test --locked --package syncline-tests --test simulation -- --nocapture

# The stock clients against the newest binary
npm:
    npm --prefix tests/npm ci --ignore-scripts --no-audit --no-fund
    npm --prefix tests/npm test

# The provider: lint, types, build, size, package, documentation; then its tests
client:
    npm --prefix client-js ci --ignore-scripts --no-audit --no-fund
    npm --prefix client-js run check
    npm --prefix client-js test

# Dependencies: who may use what, licences, advisories
deny:
    cargo deny check

# The figures in the documentation
measure:
    cargo build --release --locked --bin syncline
    cargo test --release --locked --workspace -- --ignored --nocapture --test-threads=1

# Syncline beside a bare relay and its peers: docs/benchmarks.md
bench *flags:
    cargo build --release --locked --workspace --bins
    target/release/bench {{flags}}

# The documentation of the code, with what is private
docs:
    cargo doc --workspace --no-deps --document-private-items --locked --open

# The container image
image:
    docker build --tag syncline .
