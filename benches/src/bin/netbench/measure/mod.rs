//! What is measured, and what a measurement answers.

mod connections;
mod flood;
mod iperf;
mod round_trip;

use crate::error::Result;
use crate::system::{Endpoints, Route};
use clap::ValueEnum;
pub(crate) use connections::measure as measure_connections;
pub(crate) use iperf::CONGESTION_CONTROL;
use serde::Serialize;
use std::time::Duration;

pub(crate) use iperf::Iperf;

/// Ports on which the answering ends of TCP measurements listen.
pub(crate) const TCP_PORTS: [u16; 3] = [iperf::PORT, round_trip::PORT, connections::PORT];

/// Ports on which the answering ends of UDP measurements listen.
pub(crate) const UDP_PORTS: [u16; 2] = [round_trip::PORT, flood::PORT];

/// Which way the bytes of a bulk measurement go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the end that opened the connection.
    FromClient,
    /// Towards it.
    ToClient,
}

/// One kind of measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Measure {
    /// One TCP stream by iperf3.
    #[value(name = "tcp-1")]
    #[serde(rename = "tcp-1")]
    Tcp1,
    /// Four TCP streams by iperf3.
    #[value(name = "tcp-4")]
    #[serde(rename = "tcp-4")]
    Tcp4,
    /// One TCP stream towards the client.
    #[value(name = "tcp-1-reverse")]
    #[serde(rename = "tcp-1-reverse")]
    Tcp1Reverse,
    /// Four TCP streams towards the client.
    #[value(name = "tcp-4-reverse")]
    #[serde(rename = "tcp-4-reverse")]
    Tcp4Reverse,
    /// Datagrams of 64 bytes, as fast as one sender can.
    #[value(name = "udp-64")]
    #[serde(rename = "udp-64")]
    Udp64,
    /// Datagrams of 1400 bytes, as fast as one sender can.
    #[value(name = "udp-1400")]
    #[serde(rename = "udp-1400")]
    Udp1400,
    /// Datagrams of 64 bytes towards the client.
    #[value(name = "udp-64-reverse")]
    #[serde(rename = "udp-64-reverse")]
    Udp64Reverse,
    /// Datagrams of 1400 bytes towards the client.
    #[value(name = "udp-1400-reverse")]
    #[serde(rename = "udp-1400-reverse")]
    Udp1400Reverse,
    /// Ping-pong of one byte on a TCP connection.
    TcpRr,
    /// Ping-pong of one byte in datagrams.
    UdpRr,
    /// New connections, eight at a time, each for one byte there and back.
    Connects,
}

/// A quantity that a measurement yields, with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Metric {
    /// Received payload, Gbit/s.
    Throughput,
    /// TCP segments sent again.
    Retransmits,
    /// Datagrams received per second, thousands.
    Received,
    /// Datagrams handed to the sender's kernel per second, thousands.
    Sent,
    /// Median round trip, µs.
    Median,
    /// 99th percentile of the round trip, µs.
    P99,
    /// Connections opened, used for one byte each way and closed, per second.
    Connections,
    /// Processor time of the carrying process, percent of one processor.
    Processor,
    /// Requests of the API answered per second.
    Requests,
}

/// One value of a measurement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Reading {
    /// What it is.
    pub(crate) metric: Metric,
    /// In the unit of the metric.
    pub(crate) value: f64,
}

impl Measure {
    /// Every measurement, in the order of a round.
    pub(crate) const ALL: [Self; 11] = [
        Self::Tcp1,
        Self::Tcp4,
        Self::Tcp1Reverse,
        Self::Tcp4Reverse,
        Self::Udp64,
        Self::Udp1400,
        Self::Udp64Reverse,
        Self::Udp1400Reverse,
        Self::TcpRr,
        Self::UdpRr,
        Self::Connects,
    ];

    /// The name on the command line and in reports.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Tcp1 => "tcp-1",
            Self::Tcp4 => "tcp-4",
            Self::Tcp1Reverse => "tcp-1-reverse",
            Self::Tcp4Reverse => "tcp-4-reverse",
            Self::Udp64 => "udp-64",
            Self::Udp1400 => "udp-1400",
            Self::Udp64Reverse => "udp-64-reverse",
            Self::Udp1400Reverse => "udp-1400-reverse",
            Self::TcpRr => "tcp-rr",
            Self::UdpRr => "udp-rr",
            Self::Connects => "connects",
        }
    }

    /// Whether it says something about a route. A bridge is the same in both directions.
    pub(crate) fn applies_to(self, route: Route) -> bool {
        match self {
            Self::Tcp1Reverse | Self::Tcp4Reverse | Self::Udp64Reverse | Self::Udp1400Reverse => {
                route != Route::Bridged
            }
            Self::Tcp1
            | Self::Tcp4
            | Self::Udp64
            | Self::Udp1400
            | Self::TcpRr
            | Self::UdpRr
            | Self::Connects => true,
        }
    }

    /// Measures for `duration`.
    ///
    /// # Errors
    /// When the ends do not reach each other or traffic stops.
    pub(crate) fn run(
        self,
        iperf: &Iperf,
        ends: Endpoints<'_>,
        duration: Duration,
    ) -> Result<Vec<Reading>> {
        use Direction::{FromClient, ToClient};
        match self {
            Self::Tcp1 => iperf.measure(ends, 1, FromClient, duration),
            Self::Tcp4 => iperf.measure(ends, 4, FromClient, duration),
            Self::Tcp1Reverse => iperf.measure(ends, 1, ToClient, duration),
            Self::Tcp4Reverse => iperf.measure(ends, 4, ToClient, duration),
            Self::Udp64 => flood::measure(ends, 64, FromClient, duration),
            Self::Udp1400 => flood::measure(ends, 1400, FromClient, duration),
            Self::Udp64Reverse => flood::measure(ends, 64, ToClient, duration),
            Self::Udp1400Reverse => flood::measure(ends, 1400, ToClient, duration),
            Self::TcpRr => round_trip::tcp(ends, duration),
            Self::UdpRr => round_trip::udp(ends, duration),
            Self::Connects => connections::measure(ends, 8, duration),
        }
    }
}

/// Exchanges a few datagrams and a TCP connection, so that neighbours are known.
///
/// # Errors
/// When the ends do not reach each other.
pub(crate) fn warm_up(ends: Endpoints<'_>) -> Result<()> {
    let instant = Duration::from_millis(50);
    round_trip::tcp(ends, instant)?;
    round_trip::udp(ends, instant).map(drop)
}

impl Metric {
    /// Name with unit, for tables.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Throughput => "Gbit/s",
            Self::Retransmits => "retransmits",
            Self::Received => "received kpps",
            Self::Sent => "sent kpps",
            Self::Median => "median µs",
            Self::P99 => "p99 µs",
            Self::Connections => "connections/s",
            Self::Processor => "engine CPU %",
            Self::Requests => "requests/s",
        }
    }

    /// Whether systems are compared by it. The others only explain a result.
    pub(crate) fn is_compared(self) -> bool {
        match self {
            Self::Throughput | Self::Received | Self::Median | Self::P99 | Self::Connections => {
                true
            }
            Self::Retransmits | Self::Sent | Self::Processor | Self::Requests => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_is_the_word_of_the_command_line_and_of_the_json() {
        for measure in Measure::ALL {
            let word = measure.to_possible_value().unwrap().get_name().to_owned();
            assert_eq!(measure.label(), word);
            assert_eq!(serde_json::to_value(measure).unwrap(), word);
        }
    }

    #[test]
    fn only_translated_routes_are_measured_in_reverse() {
        let bridged = Measure::ALL
            .iter()
            .filter(|measure| measure.applies_to(Route::Bridged));
        assert!(
            bridged
                .clone()
                .all(|measure| !measure.label().ends_with("reverse"))
        );
        assert_eq!(bridged.count(), 7);
        assert!(
            Measure::ALL
                .iter()
                .all(|measure| measure.applies_to(Route::Masqueraded)
                    && measure.applies_to(Route::Published))
        );
    }
}
