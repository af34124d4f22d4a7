//! What the figures are measured with.
//!
//! | module | what it is |
//! |---|---|
//! | [`agent`] | the `headwater` binary, or its library in this process |
//! | [`load`] | the broker's side of MQTT, which publishes as fast as the window lets it: a process |
//! | [`cloud`] | a Kinesis endpoint that looks at every reading: a process |
//! | [`worker`] | how those processes are started and told what to do |
//! | [`payload`] | a reading of 113 bytes that knows its number and when it was published |
//! | [`disk`] | a file system of our own, whose device counts what reaches it |
//! | [`gate`] | the buffer behind its own interface |
//! | [`machine`] | CPU time, memory, and what machine this is |
//! | [`allocations`] | how often memory was asked for |
//! | [`table`] | how it is printed |

pub mod agent;
pub mod allocations;
pub mod cloud;
pub mod disk;
pub mod gate;
pub mod load;
pub mod machine;
pub mod payload;
pub mod table;
pub mod worker;

/// A measurement, or why there is none.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Readings of one run of the comparison with the peers.
pub const READINGS: u64 = 500_000;

/// The middle one, so that one disturbed run does not count.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
