//! In the making.

pub mod check;
pub mod show;
