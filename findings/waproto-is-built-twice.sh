#!/bin/sh
# waproto 0.7.0: its build script writes whatsapp.local.desc into OUT_DIR, and the code generator that it calls
# tells cargo that it depends on that file. The file is younger than the moment at which cargo notes that the
# script began, so the next build, with nothing changed, runs the script again and compiles waproto and every
# crate above it once more. The third build does nothing: the script leaves a file alone that is as it
# should be.
#
# Cost for a program on whatsapp-rust: all of its WhatsApp crates are compiled twice on every new machine.
# Way out: give the file an old date after the first build.
#
# Seen with cargo 1.95 on Debian 12: second build "Compiling waproto", third build nothing.
# Exit 0: as described. Exit 1: changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
echo 'fn main() {}' >src/main.rs
cat >Cargo.toml <<'TOML'
[package]
name = "twice"
version = "0.0.0"
edition = "2024"
[dependencies]
waproto = { version = "=0.7.0", default-features = false }
TOML
cargo --version
for build in first second third; do
    cargo check --quiet --message-format=json >"$build" 2>/dev/null
    # Only what was compiled now is not "fresh".
    grep '"reason":"compiler-artifact"' "$build" | grep '#waproto@\|/waproto' | grep -c '"fresh":false' >"$build.count" || true
    echo "$build build: waproto compiled $(cat "$build.count") times"
done
[ "$(cat first.count)" -gt 0 ] && [ "$(cat second.count)" -gt 0 ] && [ "$(cat third.count)" -eq 0 ]
