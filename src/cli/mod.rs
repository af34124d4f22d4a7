//! In the making.

pub mod tail;
