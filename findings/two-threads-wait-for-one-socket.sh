#!/bin/sh
# async-io 2.6.0 (smol 2.0.2), Linux: a program with one thread that works inside of block_on is woken by a second one
# for nearly every packet. async-io's own thread polls the sockets whenever the thread in block_on has not looked at
# them for some 50 microseconds, which is each time that it works on something. From then on that thread sits in
# epoll_wait and holds the reactor, so the thread in block_on cannot wait for the socket itself: a packet wakes
# async-io's thread, which wakes the other. A program that does nothing between two packets never shows it.
#
# Cost for a small server that works half a millisecond on each message: two threads are woken for each.
# Way out: none in its settings; a reactor of one's own for the busy sockets, so that async-io has nothing to do.
#
# Seen on Debian 12, two processors: 3,000 packets to a program that works 0 microseconds on each: async-io's thread
# was put to sleep fewer than 200 times; with 500 microseconds on each: more than 2,000 times.
# Exit 0: as described. Exit 1: changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "two-threads"
version = "0.0.0"
edition = "2024"
[dependencies]
smol = "=2.0.2"
async-io = "=2.6.0"
TOML
cat >src/main.rs <<'RUST'
use std::io::{Read, Write};
use std::time::{Duration, Instant};
use smol::io::{AsyncReadExt, AsyncWriteExt};

const PACKETS: u32 = 3000;

/// How often async-io's thread has gone to sleep since the program began.
fn sleeps() -> u64 {
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        if status.starts_with("Name:\tasync-io") {
            let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap();
            return line.split_whitespace().last().unwrap().parse().unwrap();
        }
    }
    0
}

fn run(work: Duration) -> u64 {
    smol::block_on(async {
        let listener = smol::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        // The other side: one packet, its answer, a pause as on a line, the next.
        let peer = std::thread::spawn(move || {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            stream.set_nodelay(true).unwrap();
            for _ in 0..PACKETS {
                stream.write_all(b"x").unwrap();
                stream.read_exact(&mut [0]).unwrap();
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let before = sleeps();
        for _ in 0..PACKETS {
            stream.read_exact(&mut [0]).await.unwrap();
            let begun = Instant::now();
            while begun.elapsed() < work {}
            stream.write_all(b"x").await.unwrap();
        }
        let after = sleeps();
        peer.join().unwrap();
        after - before
    })
}

fn main() {
    let idle = run(Duration::ZERO);
    let busy = run(Duration::from_micros(500));
    println!("async-io's thread slept {idle} times beside a thread that does nothing, {busy} times beside a busy one");
    let as_described = busy > u64::from(PACKETS) / 2 && idle < u64::from(PACKETS) / 4;
    std::process::exit(i32::from(!as_described))
}
RUST
cargo run --quiet --release
