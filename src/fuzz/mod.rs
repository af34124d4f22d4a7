//! What must hold for any bytes at every place where bytes come in: each function is one fuzz target, and one test.
//!
//! `make fuzz` runs them with libFuzzer (`fuzz/`), which looks for inputs that reach new code; `make test` runs them over the seeds in
//! `fuzz/seeds` and over what comes of cutting, joining and changing those, always the same unless `PROPTEST_RNG_SEED` says otherwise.
//!
//! Invariant: a target panics when a promise is broken, and does nothing else: no file, no network, no time.

pub mod aggregate;
pub mod cold;
pub mod lines;
pub mod payload;
pub mod proxy;
pub mod routes;
pub mod serial;
pub mod settings;
pub mod tail;
pub mod wire;

/// Takes any bytes; panics when they break a promise.
pub type Target = fn(&[u8]);

/// All targets by their names, which are those in `fuzz/`.
pub const TARGETS: [(&str, Target); 10] = [
    ("aggregate", aggregate::target),
    ("cold", cold::target),
    ("lines", lines::target),
    ("payload", payload::target),
    ("proxy", proxy::target),
    ("routes", routes::target),
    ("serial", serial::target),
    ("settings", settings::target),
    ("tail", tail::target),
    ("wire", wire::target),
];

/// The first byte of `data`, or 0, and what follows.
fn first(data: &[u8]) -> (u8, &[u8]) {
    data.split_first().map_or((0, data), |(first, rest)| (*first, rest))
}

/// `data` in pieces of the lengths that `cuts` says, over and over; a length of 0 counts as 1.
fn pieces<'a>(data: &'a [u8], cuts: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let (mut rest, mut cuts) = (data, cuts.iter().cycle());
    std::iter::from_fn(move || {
        let length = cuts.next().map_or(rest.len(), |cut| usize::from(*cut).max(1)).min(rest.len());
        let (piece, after) = rest.split_at(length);
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
pub(crate) mod tests;
