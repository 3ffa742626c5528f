//! Request and response: one byte there, one byte back, one at a time.

use super::{Metric, Reading};
use crate::error::{Context, Error, Result};
use crate::statistics::percentile;
use crate::system::Endpoints;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

/// Port of the answering end.
pub(super) const PORT: u16 = 5301;

/// How long one answer may take before the measurement is given up (TCP) or the datagram counted
/// as lost (UDP).
const PATIENCE: Duration = Duration::from_secs(2);

/// Round trips in front of the measured ones: caches fill, neighbours are resolved.
const WARM_UP: usize = 200;

/// Lost datagrams in a row after which the ends count as cut off from each other.
const MOST_LOST: u32 = 3;

/// Datagram that ends the answering side.
const GOODBYE: &[u8] = b"bye";

/// Measures on one TCP connection.
pub(super) fn tcp(ends: Endpoints<'_>, duration: Duration) -> Result<Vec<Reading>> {
    let listener = ends.server.run(|| {
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).context("listening for the round trips")
    })?;
    thread::scope(|scope| {
        let echo = scope.spawn(|| echo_stream(&mut accept(&listener)?));
        let client = ends.client.run(|| connect(ends.target(PORT)));
        let samples =
            client.and_then(|mut client| sample(duration, || exchange_bytes(&mut client)));
        let answered = echo.join().map_err(|_| panicked())?;
        let summary = summary(samples?);
        answered.map(|()| summary)
    })
}

/// Waits for a connection: a translator may accept the client's without reaching the server.
fn accept(listener: &TcpListener) -> Result<TcpStream> {
    let mut readable = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    let patience = PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::MAX);
    if poll(&mut readable, patience).context("waiting for the round trips")? == 0 {
        return Err(Error::TimedOut {
            what: "connection's way to the server".to_owned(),
            after: PATIENCE,
        });
    }
    let (server, _) = listener.accept().context("accepting the round trips")?;
    prepare(&server)?;
    Ok(server)
}

fn connect(address: SocketAddrV4) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address.into(), PATIENCE)
        .context(format!("connecting to {address}"))?;
    prepare(&stream)?;
    Ok(stream)
}

fn prepare(stream: &TcpStream) -> Result<()> {
    stream
        .set_nodelay(true)
        .context("switching Nagle's algorithm off")?;
    stream
        .set_read_timeout(Some(PATIENCE))
        .context("limiting a read")
}

fn echo_stream(stream: &mut TcpStream) -> Result<()> {
    let mut byte = [0];
    while stream.read(&mut byte).context("waiting for a request")? > 0 {
        stream.write_all(&byte).context("answering a request")?;
    }
    Ok(())
}

fn exchange_bytes(stream: &mut TcpStream) -> Result<()> {
    let mut byte = [1];
    stream.write_all(&byte).context("sending a request")?;
    stream
        .read_exact(&mut byte)
        .context("waiting for an answer")
}

/// Measures with datagrams; lost ones are sent again and not counted.
pub(super) fn udp(ends: Endpoints<'_>, duration: Duration) -> Result<Vec<Reading>> {
    let server = ends.server.run(|| socket(PORT))?;
    let client = ends.client.run(|| socket(0))?;
    client
        .connect(ends.target(PORT))
        .context("choosing the peer")?;
    thread::scope(|scope| {
        let echo = scope.spawn(move || echo_datagrams(&server));
        let samples = sample(duration, || exchange_datagrams(&client));
        let _lost_at_worst = client.send(GOODBYE);
        echo.join().map_err(|_| panicked())??;
        Ok(summary(samples?))
    })
}

fn socket(port: u16) -> Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).context("binding a UDP socket")?;
    socket
        .set_read_timeout(Some(PATIENCE))
        .context("limiting a read")?;
    Ok(socket)
}

fn echo_datagrams(socket: &UdpSocket) -> Result<()> {
    let mut buffer = [0; 8];
    let mut silences = 0;
    while silences < MOST_LOST {
        match socket.recv_from(&mut buffer) {
            Ok((length, _)) if &buffer[..length] == GOODBYE => return Ok(()),
            Ok((length, peer)) => {
                socket
                    .send_to(&buffer[..length], peer)
                    .context("answering a datagram")?;
                silences = 0;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => silences += 1,
            Err(error) => return Err(error).context("waiting for a datagram"),
        }
    }
    Ok(())
}

fn exchange_datagrams(socket: &UdpSocket) -> Result<()> {
    let mut byte = [0];
    for _ in 0..MOST_LOST {
        socket.send(&[1]).context("sending a datagram")?;
        match socket.recv(&mut byte) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            answer => return answer.map(drop).context("waiting for a datagram"),
        }
    }
    Err(Error::TimedOut {
        what: "datagram's way there and back".to_owned(),
        after: PATIENCE,
    })
}

/// Times exchanges one after the other, in µs.
fn sample(duration: Duration, mut exchange: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
    for _ in 0..WARM_UP {
        exchange()?;
    }
    let mut samples = Vec::new();
    let start = Instant::now();
    let mut before = start;
    while before - start < duration {
        exchange()?;
        let after = Instant::now();
        samples.push((after - before).as_secs_f64() * 1e6);
        before = after;
    }
    Ok(samples)
}

fn summary(mut samples: Vec<f64>) -> Vec<Reading> {
    samples.sort_by(f64::total_cmp);
    [(Metric::Median, 50.0), (Metric::P99, 99.0)]
        .into_iter()
        .filter_map(|(metric, rank)| {
            Some(Reading {
                metric,
                value: percentile(&samples, rank)?,
            })
        })
        .collect()
}

fn panicked() -> Error {
    Error::Failed {
        command: "answering thread".to_owned(),
        output: "panicked".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_holds_median_and_tail() {
        let samples = (1..=100).rev().map(f64::from).collect();
        let expected = vec![
            Reading {
                metric: Metric::Median,
                value: 50.0,
            },
            Reading {
                metric: Metric::P99,
                value: 99.0,
            },
        ];
        assert_eq!(summary(samples), expected);
    }

    #[test]
    fn failed_exchange_ends_the_sampling() {
        let mut left = WARM_UP + 5;
        let outcome = sample(Duration::from_secs(60), || {
            left = left.checked_sub(1).ok_or_else(panicked)?;
            Ok(())
        });
        assert!(outcome.is_err());
    }
}
