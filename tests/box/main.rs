//! bot-kjp on emulated boxes: the real binary for aarch64, a real kernel, real disks that lose power.
//!
//! Not part of `cargo test`: it needs the binary and the boxes' parts. `scripts/test` makes both and
//! runs `cargo test --test box`.

mod boot;
mod no_journal;
mod power_cut;
#[path = "../it/qr_camera.rs"]
mod qr_camera;
mod randomness;
mod scene;
#[path = "../it/seed.rs"]
mod seed;
mod systemd;
