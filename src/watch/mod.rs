//! Watch.
pub mod facts;
mod machine;
pub mod warning;
pub mod wording;
