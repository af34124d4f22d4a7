//! Stage 1 of 5: the field. A source owns its session with the field, and hands over what it hears in the order of arrival.

mod error;
pub mod mqtt;
pub mod serial;

pub use error::SourceError;
