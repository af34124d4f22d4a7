//! In the making.

#[cfg(feature = "demo")]
pub mod demo;
