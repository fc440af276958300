//! Randomness of a test, printed so that a failure can be replayed with `SEED=…`.

/// SplitMix64: small, and the same everywhere.
pub struct Random(u64);

/// Takes the seed from `SEED` or the clock, and prints it.
pub fn announce(test: &str) -> Random {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        bot_kjp::clock::unix_seconds().unsigned_abs() ^ (u64::from(std::process::id()) << 32)
    });
    println!("{test}: SEED={seed}");
    Random(seed)
}

impl Random {
    /// The same numbers for the same seed.
    #[allow(dead_code)] // not every test program splits its randomness
    pub fn from_seed(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in 0..bound, good enough for choosing among a few.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// In 0.0..1.0.
    pub fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}
