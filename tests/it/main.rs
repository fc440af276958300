//! Integration tests, one binary with a module per subject.

mod sync;
