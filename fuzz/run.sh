#!/bin/sh
# Runs every fuzz target for FUZZ_SECONDS (30), one after the other, and ends with 1 when one of them finds something.
#
# The coverage that libFuzzer steers by comes from stable flags of rustc, so no nightly compiler and no cargo-fuzz are needed; both work
# with this folder too, and add the address sanitizer: cargo +nightly fuzz run wire. What was found to reach new code stays in
# target/fuzz/corpus for the next run; an input that breaks a promise is written to target/fuzz/artifacts.
set -eu

cd "$(dirname "$0")/.."
seconds=${FUZZ_SECONDS:-30}
cargo=${CARGO:-cargo}

fail() {
    echo "make fuzz can't go on: $*" >&2
    exit 1
}

command -v "$cargo" >/dev/null 2>&1 || fail "cargo is missing; install Rust"
command -v c++ >/dev/null 2>&1 || fail "c++ is missing, and libFuzzer is C++; install Debian's g++"

host=$(rustc -vV | sed -n 's/^host: //p')
sancov="-Cpasses=sancov-module"
for option in level=4 inline-8bit-counters pc-table trace-compares; do
    sancov="$sancov -Cllvm-args=-sanitizer-coverage-$option"
done
# With --target the flags are for what is fuzzed, and not for build scripts, which have no libFuzzer to report to.
RUSTFLAGS="--cfg fuzzing $sancov" "$cargo" build --release --target "$host" \
    --manifest-path fuzz/Cargo.toml --target-dir target/fuzz/build ||
    fail "the targets do not build; the first build needs crates.io for libfuzzer-sys"

found=0
for file in fuzz/fuzz_targets/*.rs; do
    name=$(basename "$file" .rs)
    mkdir -p "target/fuzz/corpus/$name" "target/fuzz/artifacts/$name"
    log=target/fuzz/$name.log
    if "target/fuzz/build/$host/release/$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
        -artifact_prefix="target/fuzz/artifacts/$name/" "target/fuzz/corpus/$name" "fuzz/seeds/$name" >"$log" 2>&1; then
        echo "fuzz $name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs in $seconds s, nothing found"
    else
        found=1
        echo "fuzz $name: FOUND SOMETHING, see $log; the end of it:" >&2
        tail -n 15 "$log" >&2
    fi
done
exit $found
