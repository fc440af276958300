//! What the executor's thread sleeps on: the sockets and timers that every message needs.
//!
//! smol's reactor (async-io) has a thread of its own. Whenever the executor's thread is busy, that one takes
//! over, and what comes next wakes both, one after the other (`findings/two-threads-wait-for-one-socket.sh`). It also asks the kernel five times where one
//! question would do: it sets a kernel timer and arms two descriptors anew for each wait, arms a socket
//! anew after each event, and interrupts itself for each new timer. So the executor's thread waits here, and
//! async-io's sleeps; it is woken for what is rare: signals, DNS, changes of the network, the status page
//! and what the worker thread asks for.
//!
//! Only the thread inside of [`block_on`] has a reactor, and nothing here ever waits for another thread.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;
use smol::io::{AsyncRead, AsyncWrite};

use crate::clock;

/// Events taken from the kernel at once; what is left comes with the next. There is one socket here as a
/// rule, and some while a connection is being made.
const EVENTS: usize = 8;

/// One wait takes no longer: kernels before 5.11 know no limit above 24 days.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// The key of [`Reactor::bell`] among those of the sockets, which count from 1.
const BELL: u64 = 0;

/// Whether the future that [`block_on`] runs is to be polled again: not yet.
const QUIET: u8 = 0;
/// It is.
const WOKEN: u8 = 1;
/// Not yet, and the thread is in the kernel: whoever wakes it rings [`Reactor::bell`].
const ASLEEP: u8 = 2;

thread_local! {
    static CURRENT: RefCell<Option<Arc<Reactor>>> = const { RefCell::new(None) };
}

/// Runs `future` on this thread, which sleeps while there is nothing to do.
///
/// # Errors
/// When the kernel gives no epoll instance.
pub fn block_on<T>(future: impl Future<Output = T>) -> io::Result<T> {
    let reactor = Arc::new(Reactor::new()?);
    let _current = Current(CURRENT.replace(Some(reactor.clone())));
    let waker = Waker::from(reactor.clone());
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    let mut events = Vec::with_capacity(EVENTS);
    let mut ready = Vec::new();
    loop {
        reactor.state.store(QUIET, Ordering::SeqCst);
        if let Poll::Ready(result) = future.as_mut().poll(&mut cx) {
            return Ok(result);
        }
        loop {
            reactor.wait(&mut events, &mut ready)?;
            ready.drain(..).for_each(Waker::wake);
            if reactor.state.load(Ordering::SeqCst) == WOKEN {
                break;
            }
        }
    }
}

/// The reactor of this thread, if it has one.
pub fn current() -> Option<Arc<Reactor>> {
    CURRENT.with_borrow(Clone::clone)
}

/// Puts back what was current before.
struct Current(Option<Arc<Reactor>>);

impl Drop for Current {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

/// Timers and sockets of one thread.
#[derive(Debug)]
pub struct Reactor {
    epoll: OwnedFd,
    /// Rung from other threads.
    bell: OwnedFd,
    state: AtomicU8,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// By when they are due; the number tells those of one moment apart.
    timers: BTreeMap<(Instant, u64), Option<Waker>>,
    sockets: BTreeMap<u64, Arc<Mutex<Readiness>>>,
    last_number: u64,
}

impl Waiting {
    fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }
}

impl Wake for Reactor {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(WOKEN, Ordering::SeqCst) == ASLEEP {
            // It fails only when the bell has been ringing 2^64 times, and then it rings.
            let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
        }
    }
}

impl Reactor {
    fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        // Edge-triggered: each stroke is heard once, and nobody has to read it.
        epoll::add(&epoll, &bell, EventData::new_u64(BELL), EventFlags::IN | EventFlags::ET)?;
        Ok(Self { epoll, bell, state: AtomicU8::new(QUIET), waiting: Mutex::default() })
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next event, at most until the first timer is due, and puts into `ready` who is to be
    /// woken. Does not wait when the future is to be polled anyway.
    fn wait(&self, events: &mut Vec<epoll::Event>, ready: &mut Vec<Waker>) -> io::Result<()> {
        let first = self.waiting().timers.first_key_value().map(|((due, _), _)| *due);
        let until_due = first
            .map_or(LONGEST_WAIT, |due| due.saturating_duration_since(clock::monotonic()).min(LONGEST_WAIT));
        let asleep = self.state.compare_exchange(QUIET, ASLEEP, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        let limit = match (asleep, first) {
            (false, _) => Some(Duration::ZERO),
            (true, None) => None,
            (true, Some(_)) => Some(until_due),
        };
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        events.clear();
        let waited = epoll::wait(&self.epoll, spare_capacity(events), limit.as_ref());
        // What is woken from here on needs no bell.
        let _ = self.state.compare_exchange(ASLEEP, QUIET, Ordering::SeqCst, Ordering::SeqCst);
        match waited {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut waiting = self.waiting();
        for event in events.iter() {
            let (flags, key) = (event.flags, event.data.u64());
            if let Some(socket) = waiting.sockets.get(&key) {
                lock(socket).note(flags, ready);
            }
        }
        if let Some(mut timer) = waiting.timers.first_entry() {
            let now = clock::monotonic();
            while timer.key().0 <= now {
                ready.extend(timer.remove());
                match waiting.timers.first_entry() {
                    Some(next) => timer = next,
                    None => break,
                }
            }
        }
        Ok(())
    }

    /// Waits until `due`.
    pub fn sleep_until(self: Arc<Self>, due: Instant) -> Sleep {
        Sleep { reactor: self, due, key: None }
    }

    /// Watches a connection, which must be non-blocking.
    pub fn watch(self: Arc<Self>, stream: TcpStream) -> io::Result<Stream> {
        let readiness = Arc::<Mutex<Readiness>>::default();
        let key = {
            let mut waiting = self.waiting();
            let key = waiting.number();
            waiting.sockets.insert(key, readiness.clone());
            key
        };
        // Armed once: an edge comes whenever there is more than before.
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        let watched = epoll::add(&self.epoll, &stream, EventData::new_u64(key), flags);
        // From here on it is removed when it is dropped.
        let stream = Stream { stream, readiness, reactor: self, key };
        watched?;
        Ok(stream)
    }
}

/// A timer.
#[must_use = "futures do nothing unless polled"]
pub struct Sleep {
    reactor: Arc<Reactor>,
    due: Instant,
    key: Option<(Instant, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { reactor, due, key } = &mut *self;
        let mut waiting = reactor.waiting();
        let before = match key {
            None => {
                let new = *key.insert((*due, waiting.number()));
                waiting.timers.insert(new, Some(cx.waker().clone())).flatten()
            }
            Some(key) => match waiting.timers.get_mut(key) {
                Some(waker) => replace(waker, cx.waker()),
                None => return Poll::Ready(()),
            },
        };
        // A waker may be the last that holds a task, and that a timer: not while they are locked.
        drop(waiting);
        drop(before);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let waker = self.reactor.waiting().timers.remove(&key);
            drop(waker);
        }
    }
}

/// Puts `new` in the place of `waker` if that wakes another task.
fn replace(waker: &mut Option<Waker>, new: &Waker) -> Option<Waker> {
    match waker {
        Some(same) if same.will_wake(new) => None,
        other => other.replace(new.clone()),
    }
}

/// What is known of a socket without asking the kernel.
#[derive(Debug)]
struct Readiness {
    /// Trying may be worth while.
    readable: bool,
    writable: bool,
    /// The peer has sent its last, or the connection has failed: no edge will follow, so it is read to the end.
    ended: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self { readable: true, writable: true, ended: false, reader: None, writer: None }
    }
}

impl Readiness {
    fn note(&mut self, flags: EventFlags, ready: &mut Vec<Waker>) {
        let failed = flags.intersects(EventFlags::HUP | EventFlags::ERR);
        if failed || flags.contains(EventFlags::RDHUP) {
            self.ended = true;
        }
        if self.ended || flags.contains(EventFlags::IN) {
            self.readable = true;
            ready.extend(self.reader.take());
        }
        if failed || flags.contains(EventFlags::OUT) {
            self.writable = true;
            ready.extend(self.writer.take());
        }
    }
}

fn lock(readiness: &Mutex<Readiness>) -> MutexGuard<'_, Readiness> {
    readiness.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A TCP connection that its reactor watches.
#[derive(Debug)]
pub struct Stream {
    stream: TcpStream,
    readiness: Arc<Mutex<Readiness>>,
    reactor: Arc<Reactor>,
    key: u64,
}

impl Stream {
    pub fn get_ref(&self) -> &TcpStream {
        &self.stream
    }

    fn poll_write_with(
        &self,
        cx: &Context<'_>,
        mut write: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        // Held while the kernel is asked: an edge that comes meanwhile is noted after the answer.
        let mut readiness = lock(&self.readiness);
        while readiness.writable {
            match write(&self.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => readiness.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return Poll::Ready(done),
            }
        }
        let before = replace(&mut readiness.writer, cx.waker());
        drop(readiness);
        drop(before);
        Poll::Pending
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut readiness = lock(&self.readiness);
        while readiness.readable {
            match (&self.stream).read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => readiness.readable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => {
                    // There was less than fits, so there is nothing more: for what comes next there will be
                    // an edge (epoll(7)).
                    if matches!(done, Ok(read) if 0 < read && read < buffer.len()) && !readiness.ended {
                        readiness.readable = false;
                    }
                    return Poll::Ready(done);
                }
            }
        }
        let before = replace(&mut readiness.reader, cx.waker());
        drop(readiness);
        drop(before);
        Poll::Pending
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |mut stream| stream.write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |mut stream| stream.write_vectored(bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.stream.shutdown(Shutdown::Write))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // The kernel may hold a copy of the descriptor that lives longer, and would go on telling of it.
        let _ = epoll::delete(&self.reactor.epoll, &self.stream);
        let readiness = self.reactor.waiting().sockets.remove(&self.key);
        drop(readiness);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor;
    use crate::net::deadline::within;
    use futures_lite::future::{or, poll_fn, yield_now, zip};
    use futures_lite::{AsyncReadExt as _, AsyncWriteExt as _};
    use std::net::TcpListener;
    use std::thread;

    const SOON: Duration = Duration::from_secs(20);

    fn milliseconds(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// A watched connection, and its peer that blocks.
    fn pair() -> (Stream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        here.set_nonblocking(true).unwrap();
        let (there, _) = listener.accept().unwrap();
        (current().unwrap().watch(here).unwrap(), there)
    }

    #[test]
    fn timers_end_in_their_order_and_never_early() {
        let ended = Mutex::new(Vec::new());
        block_on(async {
            let timer = async |time| {
                let begun = clock::monotonic();
                clock::sleep(milliseconds(time)).await;
                assert!(clock::monotonic() - begun >= milliseconds(time), "too early");
                ended.lock().unwrap().push(time);
            };
            zip(zip(timer(30), timer(0)), zip(timer(10), timer(20))).await;
            assert!(current().unwrap().waiting().timers.is_empty());
        })
        .unwrap();
        assert_eq!(ended.into_inner().unwrap(), [0, 10, 20, 30]);
    }

    #[test]
    fn a_timer_that_nobody_waits_for_any_more_is_gone() {
        block_on(async {
            for _ in 0..3 {
                assert!(within(SOON, clock::sleep(milliseconds(1))).await.is_some());
                assert!(within(milliseconds(1), clock::sleep(SOON)).await.is_none());
            }
            assert!(current().unwrap().waiting().timers.is_empty());
        })
        .unwrap();
    }

    #[test]
    fn at_rest_nothing_is_polled() {
        let mut polls = 0;
        block_on(async {
            let mut sleep = pin!(clock::sleep(milliseconds(100)));
            poll_fn(|cx| {
                polls += 1;
                sleep.as_mut().poll(cx)
            })
            .await;
        })
        .unwrap();
        assert_eq!(polls, 2);
    }

    #[test]
    fn another_thread_wakes_it_while_it_sleeps_and_while_it_works() {
        let executor = executor::new();
        let (send, receive) = async_channel::bounded(1);
        let sender = thread::spawn(move || {
            for number in 0..1000 {
                if number % 100 == 0 {
                    thread::sleep(milliseconds(1));
                }
                send.send_blocking(number).unwrap();
            }
        });
        let all = async {
            for number in 0..1000 {
                assert_eq!(receive.recv().await, Ok(number));
            }
        };
        executor::run(executor, within(SOON, all)).unwrap().expect("it slept on");
        sender.join().unwrap();
    }

    #[test]
    fn tasks_that_never_rest_do_not_keep_timers_and_sockets_waiting() {
        let executor = executor::new();
        executor::run(executor, async {
            let busy = executor.spawn(async {
                loop {
                    yield_now().await;
                }
            });
            let (mut here, mut there) = pair();
            clock::sleep(milliseconds(5)).await;
            there.write_all(b"x").unwrap();
            let mut byte = [0];
            within(SOON, here.read_exact(&mut byte)).await.expect("it waits").unwrap();
            drop(busy);
        })
        .unwrap();
    }

    #[test]
    fn what_comes_is_read_to_the_end_whatever_the_pieces() {
        for (piece, buffer) in [(1, 1), (7, 64), (64, 64), (1000, 64), (100_000, 4096)] {
            block_on(async {
                let (mut here, mut there) = pair();
                let sent: Vec<u8> = (0..piece * 20).map(|place| (place % 251) as u8).collect();
                let theirs = sent.clone();
                let sender = thread::spawn(move || {
                    for (number, piece) in theirs.chunks(piece).enumerate() {
                        if number % 5 == 0 {
                            thread::sleep(milliseconds(1));
                        }
                        there.write_all(piece).unwrap();
                    }
                    // The last bytes and the end come together.
                });
                let mut received = Vec::new();
                let mut buffer = vec![0; buffer];
                loop {
                    let read = within(SOON, here.read(&mut buffer)).await.expect("it waits").unwrap();
                    if read == 0 {
                        break;
                    }
                    received.extend_from_slice(&buffer[..read]);
                }
                assert_eq!(received, sent);
                sender.join().unwrap();
            })
            .unwrap();
        }
    }

    #[test]
    fn what_the_peer_does_not_take_waits() {
        block_on(async {
            let (mut here, mut there) = pair();
            // More than the kernel keeps for both.
            let sent = vec![7; 20_000_000];
            let length = sent.len();
            let reader = thread::spawn(move || {
                thread::sleep(milliseconds(20));
                let mut received = Vec::new();
                there.read_to_end(&mut received).unwrap();
                received.len()
            });
            within(SOON, here.write_all(&sent)).await.expect("it waits").unwrap();
            here.close().await.unwrap();
            assert_eq!(reader.join().unwrap(), length);
        })
        .unwrap();
    }

    #[test]
    fn a_connection_that_is_reset_ends_who_reads_and_who_writes() {
        block_on(async {
            let (mut here, there) = pair();
            // What is unread when it closes makes it a reset.
            here.write_all(b"x").await.unwrap();
            let closer = thread::spawn(move || {
                thread::sleep(milliseconds(20));
                drop(there);
            });
            let error = within(SOON, here.read(&mut [0])).await.expect("it waits").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            assert!(within(SOON, here.write_all(b"x")).await.expect("it waits").is_err());
            closer.join().unwrap();
        })
        .unwrap();
    }

    #[test]
    fn a_dropped_connection_is_forgotten() {
        block_on(async {
            let (mut here, _there) = pair();
            assert!(!or(async { here.read(&mut [0]).await.is_ok() }, async { false }).await);
            drop(here);
            assert!(current().unwrap().waiting().sockets.is_empty());
        })
        .unwrap();
    }

    #[test]
    fn only_the_thread_inside_has_one() {
        assert!(current().is_none());
        block_on(async {
            let outer = current().unwrap();
            block_on(async { assert!(!Arc::ptr_eq(&current().unwrap(), &outer)) }).unwrap();
            assert!(Arc::ptr_eq(&current().unwrap(), &outer));
            assert!(thread::spawn(|| current().is_none()).join().unwrap());
        })
        .unwrap();
        assert!(current().is_none());
    }
}
