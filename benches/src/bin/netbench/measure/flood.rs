//! UDP as fast as one sender can: how many datagrams arrive per second.
//!
//! iperf3 makes one system call per datagram and reads its clock for each, so that at 64 bytes it
//! measures itself. Here one thread sends batches by sendmmsg(2) without a pause and another
//! receives batches by recvmmsg(2). The sender does not slow down when datagrams are lost: every
//! system gets the same unending offer, and what counts is what arrives. One sender, since a second
//! takes the receiver's processor on small machines: fewer datagrams then arrive over the kernel's
//! bridge, which would flatter whatever is compared with it.

use super::{Direction, Metric, Reading};
use crate::error::{Context, Error, Result};
use crate::system::Endpoints;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg, sendmmsg};
use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Port of the server.
pub(super) const PORT: u16 = 5302;

/// Datagrams per system call, both ways.
const BATCH: usize = 64;

/// Room for one datagram: anything that fits into an MTU of 1500.
const ROOM: usize = 2048;

/// Time in front of the counted one: queues fill, processors settle.
const WARM_UP: Duration = Duration::from_millis(300);

/// How long the receiver waits before it looks whether it should stop.
const LOOK_UP: Duration = Duration::from_millis(100);

/// How often the client tells the server where it is; each time it waits for [`LOOK_UP`].
const GREETINGS: usize = 20;

/// What sender and receiver share with the thread that counts.
#[derive(Default)]
struct Counters {
    sent: AtomicU64,
    received: AtomicU64,
    stop: AtomicBool,
}

/// Sends datagrams with `payload` bytes for `duration`.
pub(super) fn measure(
    ends: Endpoints<'_>,
    payload: usize,
    direction: Direction,
    duration: Duration,
) -> Result<Vec<Reading>> {
    let (client, server) = meet(ends)?;
    let (sender, receiver) = match direction {
        Direction::FromClient => (client, server),
        Direction::ToClient => (server, client),
    };
    let counters = Counters::default();
    thread::scope(|scope| {
        let receiving = scope.spawn(|| receive(&receiver, &counters));
        let sending = scope.spawn(|| send(&sender, payload, &counters));
        let readings = count(&counters, duration);
        counters.stop.store(true, Ordering::Relaxed);
        for thread in [sending, receiving] {
            thread.join().map_err(|_| panicked())??;
        }
        Ok(readings)
    })
}

/// Two sockets that know each other. The client speaks first, so that a translator lets the
/// server's datagrams in.
fn meet(ends: Endpoints<'_>) -> Result<(UdpSocket, UdpSocket)> {
    let server = ends.server.run(|| socket(PORT))?;
    let client = ends.client.run(|| socket(0))?;
    client
        .connect(ends.target(PORT))
        .context("choosing the peer")?;
    for _ in 0..GREETINGS {
        client
            .send(b"hello")
            .context("sending the first datagram")?;
        if let Ok((_, peer)) = server.recv_from(&mut [0; 8]) {
            server.connect(peer).context("choosing the peer")?;
            return Ok((client, server));
        }
    }
    Err(Error::TimedOut {
        what: "first datagram".to_owned(),
        after: LOOK_UP * u32::try_from(GREETINGS).unwrap_or(u32::MAX),
    })
}

fn socket(port: u16) -> Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).context("binding a UDP socket")?;
    socket
        .set_read_timeout(Some(LOOK_UP))
        .context("limiting a read")?;
    Ok(socket)
}

fn send(socket: &UdpSocket, payload: usize, counters: &Counters) -> Result<()> {
    let datagram = vec![0; payload];
    let mut headers = MultiHeaders::<()>::preallocate(BATCH, None);
    while !counters.stop.load(Ordering::Relaxed) {
        let slices = [[IoSlice::new(&datagram)]; BATCH];
        let descriptor = socket.as_raw_fd();
        let flags = MsgFlags::empty();
        match sendmmsg(descriptor, &mut headers, &slices, [None; BATCH], [], flags) {
            Ok(sent) => add(&counters.sent, sent.count()),
            Err(Errno::ENOBUFS | Errno::EAGAIN | Errno::EINTR) => thread::yield_now(),
            Err(error) => return Err(error).context("sending datagrams"),
        }
    }
    Ok(())
}

fn receive(socket: &UdpSocket, counters: &Counters) -> Result<()> {
    let mut memory = vec![0; BATCH * ROOM];
    let mut headers = MultiHeaders::<()>::preallocate(BATCH, None);
    while !counters.stop.load(Ordering::Relaxed) {
        let mut slices: Vec<_> = memory
            .chunks_mut(ROOM)
            .map(|room| [IoSliceMut::new(room)])
            .collect();
        let descriptor = socket.as_raw_fd();
        match recvmmsg(
            descriptor,
            &mut headers,
            &mut slices,
            MsgFlags::MSG_WAITFORONE,
            None,
        ) {
            Ok(received) => add(&counters.received, received.count()),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(error) => return Err(error).context("receiving datagrams"),
        }
    }
    Ok(())
}

fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}

/// Lets the flood run and answers the rates of the time after the warm-up.
fn count(counters: &Counters, duration: Duration) -> Vec<Reading> {
    thread::sleep(WARM_UP);
    let start = Instant::now();
    let before = totals(counters);
    thread::sleep(duration);
    let after = totals(counters);
    let seconds = start.elapsed().as_secs_f64();
    let kilo_rate = |index: usize| (after[index] - before[index]) as f64 / seconds / 1e3;
    vec![
        Reading {
            metric: Metric::Received,
            value: kilo_rate(0),
        },
        Reading {
            metric: Metric::Sent,
            value: kilo_rate(1),
        },
    ]
}

fn totals(counters: &Counters) -> [u64; 2] {
    [&counters.received, &counters.sent].map(|counter| counter.load(Ordering::Relaxed))
}

fn panicked() -> Error {
    Error::Failed {
        command: "flooding thread".to_owned(),
        output: "panicked".to_owned(),
    }
}
