//! New connections per second: connect, one byte there, one byte back, close.

use super::{Metric, Reading};
use crate::error::{Context, Error, Result};
use crate::netns::Netns;
use crate::system::Endpoints;
use nix::sys::socket::{Shutdown, shutdown};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Port of the answering end.
pub(super) const PORT: u16 = 5303;

/// Most connections of one measurement. A closed connection holds its port for a minute
/// (RFC 9293 §3.6.1), and several measurements fall into one.
const MOST: u64 = 10_000;

/// How long one connection may take before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(3);

/// What all threads share.
#[derive(Default)]
struct Progress {
    made: AtomicU64,
    over: AtomicBool,
}

/// Opens connections one after the other, `parallel` at a time, for `duration` or up to a fixed
/// number of them.
pub(crate) fn measure(
    ends: Endpoints<'_>,
    parallel: usize,
    duration: Duration,
) -> Result<Vec<Reading>> {
    let listener = ends.server.run(|| {
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).context("listening for connections")
    })?;
    let (progress, start) = (Progress::default(), Instant::now());
    let deadline = start + duration;
    thread::scope(|scope| {
        let answer = || scope.spawn(|| answer(&listener, &progress));
        let open = || scope.spawn(|| open(ends.client, ends.target(PORT), deadline, &progress));
        let answering: Vec<_> = (0..parallel).map(|_| answer()).collect();
        let opening: Vec<_> = (0..parallel).map(|_| open()).collect();
        let outcomes: Vec<_> = opening
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .collect();
        let elapsed = start.elapsed();
        progress.over.store(true, Ordering::Relaxed);
        let _unblocks_accept = shutdown(listener.as_raw_fd(), Shutdown::Both);
        let answered = answering.into_iter().map(thread::ScopedJoinHandle::join);
        for outcome in outcomes.into_iter().chain(answered.collect::<Vec<_>>()) {
            outcome.map_err(|_| panicked())??;
        }
        Ok(vec![Reading {
            metric: Metric::Connections,
            value: progress.made.load(Ordering::Relaxed) as f64 / elapsed.as_secs_f64(),
        }])
    })
}

fn open(
    client: &Netns,
    server: SocketAddrV4,
    deadline: Instant,
    progress: &Progress,
) -> Result<()> {
    client.enter()?;
    while Instant::now() < deadline && progress.made.load(Ordering::Relaxed) < MOST {
        exchange(server)?;
        progress.made.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn exchange(server: SocketAddrV4) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&server.into(), PATIENCE)
        .context(format!("connecting to {server}"))?;
    stream
        .set_read_timeout(Some(PATIENCE))
        .context("limiting a read")?;
    stream.write_all(&[1]).context("sending the byte")?;
    stream
        .read_exact(&mut [0])
        .context("waiting for the byte to come back")
}

/// Answers connections until the listener is shut down. Every thread sees its connection to the
/// end, so that the client closes first.
fn answer(listener: &TcpListener, progress: &Progress) -> Result<()> {
    loop {
        match listener.accept() {
            Ok((mut stream, _)) => echo(&mut stream)?,
            Err(_) if progress.over.load(Ordering::Relaxed) => return Ok(()),
            Err(error) => return Err(error).context("accepting a connection"),
        }
    }
}

fn echo(stream: &mut TcpStream) -> Result<()> {
    stream
        .set_read_timeout(Some(PATIENCE))
        .context("limiting a read")?;
    let mut byte = [0];
    loop {
        match stream.read(&mut byte) {
            Ok(0) => return Ok(()),
            Ok(_) => stream.write_all(&byte).context("sending the byte back")?,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error).context("waiting for the byte"),
        }
    }
}

fn panicked() -> Error {
    Error::Failed {
        command: "thread of connections".to_owned(),
        output: "panicked".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener() -> (TcpListener, SocketAddrV4) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))
    }

    #[test]
    fn answering_ends_with_its_listener() {
        let ((listener, address), progress) = (listener(), Progress::default());
        thread::scope(|scope| {
            let answering = scope.spawn(|| answer(&listener, &progress));
            exchange(address).unwrap();
            progress.over.store(true, Ordering::Relaxed);
            shutdown(listener.as_raw_fd(), Shutdown::Both).unwrap();
            answering.join().unwrap().unwrap();
        });
    }

    #[test]
    fn accepted_connection_without_an_answer_does_not_count() {
        let (listener, address) = listener();
        thread::scope(|scope| {
            scope.spawn(|| drop(listener.accept()));
            assert!(exchange(address).is_err());
        });
    }
}
