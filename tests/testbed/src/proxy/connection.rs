//! One connection through the proxy: two pumps, and what goes wrong with them.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use event_listener::Event;
use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, FutureExt, future};

use super::fault::{Direction, Fault, When};

/// Bytes read at once.
const CHUNK: usize = 16 * 1024;

/// Chunks on their way in one direction, so that a delay does not slow the reading down. When full,
/// the sender feels it.
const ON_THE_WAY: usize = 64;

/// A throttled connection passes so many portions a second on.
const PORTIONS: u64 = 20;

/// How a connection goes wrong in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Cut,
    Reset,
    HalfOpen,
}

#[derive(Debug, Clone, Copy)]
struct Ending {
    end: End,
    when: When,
    since: Instant,
}

/// The faults on one connection.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rules {
    delay: [Duration; 2],
    rate: [Option<u64>; 2],
    drip: Option<Duration>,
    ending: Option<Ending>,
    pub black_hole: bool,
}

impl Direction {
    fn place(self) -> usize {
        match self {
            Direction::ToServer => 0,
            Direction::ToClient => 1,
        }
    }
}

/// Whether something without a direction, or with that one, concerns `place`.
fn concerns(direction: Option<Direction>, place: usize) -> bool {
    direction.is_none_or(|direction| direction.place() == place)
}

impl Rules {
    pub fn add(&mut self, fault: &Fault) {
        let mut end_by = |end, when| self.ending = Some(Ending { end, when, since: Instant::now() });
        match *fault {
            Fault::Delay { ms, direction } => {
                for (place, delay) in self.delay.iter_mut().enumerate() {
                    if concerns(direction, place) {
                        *delay = Duration::from_millis(ms);
                    }
                }
            }
            Fault::Throttle { bytes_per_second, direction } => {
                for (place, rate) in self.rate.iter_mut().enumerate() {
                    if concerns(direction, place) {
                        *rate = Some(bytes_per_second);
                    }
                }
            }
            Fault::Drip { ms } => self.drip = Some(Duration::from_millis(ms)),
            Fault::Cut { when } => end_by(End::Cut, when),
            Fault::Reset { when } => end_by(End::Reset, when),
            Fault::HalfOpen { when } => end_by(End::HalfOpen, when),
            Fault::BlackHole => {
                end_by(End::HalfOpen, When::now());
                self.black_hole = true;
            }
            Fault::Refuse => {}
        }
    }

    /// The same rules for a connection that begins now.
    pub fn begun_now(mut self) -> Rules {
        if let Some(ending) = &mut self.ending {
            ending.since = Instant::now();
        }
        self
    }
}

impl Ending {
    fn is_due(&self, passed: &[AtomicU64; 2]) -> bool {
        let enough = |direction: Direction| {
            self.when
                .bytes(direction)
                .is_some_and(|bytes| passed[direction.place()].load(Ordering::Relaxed) >= bytes)
        };
        self.when.is_now()
            || enough(Direction::ToServer)
            || enough(Direction::ToClient)
            || self.timer().is_some_and(|due| due <= Instant::now())
    }

    fn timer(&self) -> Option<Instant> {
        Some(self.since + Duration::from_millis(self.when.after_ms?))
    }
}

/// A connection as the proxy's owner reaches it.
#[derive(Default)]
pub struct Connection {
    rules: Mutex<Rules>,
    changed: Event,
    /// Bytes passed on, by [`Direction::place`].
    passed: [AtomicU64; 2],
}

impl Connection {
    pub fn new(rules: Rules) -> Connection {
        Connection { rules: Mutex::new(rules.begun_now()), ..Connection::default() }
    }

    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_black_hole(&self) -> bool {
        self.rules().black_hole
    }

    pub fn change(&self, act: impl FnOnce(&mut Rules)) {
        act(&mut self.rules());
        self.changed.notify(usize::MAX);
    }

    /// Waits for the moment to cut or to reset.
    pub async fn end(&self) -> End {
        loop {
            let changed = self.changed.listen();
            let ending = self.rules().ending;
            let timer = match ending {
                Some(ending) if ending.is_due(&self.passed) => match ending.end {
                    End::HalfOpen => None,
                    end => return end,
                },
                Some(ending) => ending.timer(),
                None => None,
            };
            let due = async {
                match timer {
                    Some(due) => drop(smol::Timer::at(due).await),
                    None => future::pending().await,
                }
            };
            changed.or(due).await;
        }
    }

    /// How many of `bytes` may pass now; waits while none may.
    async fn portion(&self, direction: Direction, bytes: usize) -> usize {
        loop {
            let changed = self.changed.listen();
            let rules = *self.rules();
            match rules.ending {
                None => return rules.slice(direction, bytes),
                Some(ending) if !ending.is_due(&self.passed) => {
                    let passed = self.passed[direction.place()].load(Ordering::Relaxed);
                    let left = ending.when.bytes(direction).map(|limit| limit.saturating_sub(passed));
                    let left = left.and_then(|left| usize::try_from(left).ok()).unwrap_or(usize::MAX);
                    return rules.slice(direction, bytes.min(left));
                }
                Some(_) => changed.await,
            }
        }
    }

    /// How long the direction rests after so many bytes.
    fn rest(&self, direction: Direction, bytes: usize) -> Duration {
        let rules = self.rules();
        let rate = rules.rate[direction.place()];
        let throttled = rate.map(|rate| Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64));
        throttled.unwrap_or_default().max(rules.drip.unwrap_or_default())
    }

    /// Passes on in one direction until the source ends. `count` hears of all bytes passed.
    ///
    /// # Errors
    /// When one of the sides is gone.
    pub async fn pump(
        &self,
        direction: Direction,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        count: impl Fn(u64),
    ) -> std::io::Result<()> {
        let (sender, on_the_way) = async_channel::bounded::<(Instant, Vec<u8>)>(ON_THE_WAY);
        let reading = async move {
            let mut chunk = vec![0; CHUNK];
            loop {
                let read = from.read(&mut chunk).await?;
                let due = Instant::now() + self.rules().delay[direction.place()];
                // Nobody takes it when the other side is gone, which the writer reports. The end
                // of the source travels as an empty chunk.
                if sender.send((due, chunk[..read].to_vec())).await.is_err() || read == 0 {
                    return Ok(());
                }
            }
        };
        let writing = async move {
            while let Ok((due, chunk)) = on_the_way.recv().await {
                if due > Instant::now() {
                    smol::Timer::at(due).await;
                }
                if chunk.is_empty() {
                    self.portion(direction, 0).await;
                    return to.close().await;
                }
                let mut left = &chunk[..];
                while !left.is_empty() {
                    let portion = self.portion(direction, left.len()).await;
                    to.write_all(&left[..portion]).await?;
                    to.flush().await?;
                    left = &left[portion..];
                    let bytes = portion as u64;
                    self.passed[direction.place()].fetch_add(bytes, Ordering::Relaxed);
                    count(bytes);
                    // It may have been the byte that a fault waits for.
                    self.changed.notify(usize::MAX);
                    let rest = self.rest(direction, portion);
                    if !rest.is_zero() {
                        smol::Timer::after(rest).await;
                    }
                }
            }
            Ok(())
        };
        both(reading, writing).await
    }
}

impl Rules {
    /// How many bytes pass in one go.
    fn slice(&self, direction: Direction, bytes: usize) -> usize {
        let throttled = self.rate[direction.place()].map(|rate| (rate / PORTIONS).max(1));
        let throttled = throttled.and_then(|portion| usize::try_from(portion).ok()).unwrap_or(usize::MAX);
        let dripping = if self.drip.is_some() { 1 } else { usize::MAX };
        bytes.min(throttled).min(dripping)
    }
}

/// Runs both to their end, or to the first error.
pub async fn both<E>(
    one: impl Future<Output = Result<(), E>>,
    other: impl Future<Output = Result<(), E>>,
) -> Result<(), E> {
    future::try_zip(one, other).await.map(|_| ())
}
