//! Listings: for people as Docker and iproute2 print them, for machines as JSON.

use std::time::{SystemTime, UNIX_EPOCH};

use pontoon_engine::control::api::{ContainerView, NetworkView, OffloadView, Reply, Request};
use pontoon_engine::view::{FdbEntry, FlowEntry, NeighbourEntry};
use serde::Serialize;

use crate::args::Listing;
use crate::client::{Client, Failure};
use crate::{is_json, network};

pub(crate) type Shown = Result<u8, Failure>;

/// Least width of a column; with what stands between them Docker's ten.
const COLUMN: usize = 7;

/// Prints rows under a header, columns three spaces apart.
pub(crate) fn table(header: &[impl AsRef<str>], rows: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells
            .chain([header[column].as_ref().len()])
            .max()
            .unwrap_or(0)
            .max(COLUMN)
    };
    let widths: Vec<_> = (0..header.len()).map(width).collect();
    let header: Vec<_> = header.iter().map(|text| text.as_ref().to_owned()).collect();
    for row in std::iter::once(&header).chain(rows) {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        println!("{}", cells.collect::<Vec<_>>().join("   ").trim_end());
    }
}

pub(crate) fn json(value: &impl Serialize) -> Shown {
    println!(
        "{}",
        serde_json::to_string_pretty(value).map_err(std::io::Error::from)?
    );
    Ok(0)
}

/// `fdb`, as `bridge fdb show` prints it.
pub(crate) fn fdb(client: &Client, listing: &Listing) -> Shown {
    let Reply::Fdb(entries) = client.ask(&Request::Fdb)? else {
        return Err(Failure::unexpected());
    };
    if is_json(listing) {
        return json(&entries);
    }
    let names = Names::of(client)?;
    for entry in &entries {
        println!("{}", fdb_line(entry, &names));
    }
    Ok(0)
}

fn fdb_line(entry: &FdbEntry, names: &Names) -> String {
    let network = names.network(entry.network);
    let (device, kind) = match entry.port {
        None => ("gateway".to_owned(), "self permanent".to_owned()),
        Some(port) if entry.permanent => (names.port(port), "permanent".to_owned()),
        Some(port) => (names.port(port), format!("age {:.2}", entry.age)),
    };
    format!("{} dev {device} master {network} {kind}", entry.mac)
}

/// `arp`, as `ip neigh` prints it.
pub(crate) fn neighbours(client: &Client, listing: &Listing) -> Shown {
    let Reply::Neighbours(entries) = client.ask(&Request::Neighbours)? else {
        return Err(Failure::unexpected());
    };
    if is_json(listing) {
        return json(&entries);
    }
    let names = Names::of(client)?;
    for NeighbourEntry {
        network,
        uplink,
        address,
        mac,
        state,
        ..
    } in &entries
    {
        let device = match (network, uplink) {
            (Some(number), _) => names.network(*number),
            (None, Some(number)) => format!("uplink{number}"),
            (None, None) => "?".to_owned(),
        };
        let mac = mac
            .as_ref()
            .map_or(String::new(), |mac| format!(" lladdr {mac}"));
        println!("{address} dev {device}{mac} {state}");
    }
    Ok(0)
}

/// `flows`, as `conntrack -L` prints it.
pub(crate) fn flows(client: &Client, listing: &Listing) -> Shown {
    let Reply::Flows(entries) = client.ask(&Request::Flows)? else {
        return Err(Failure::unexpected());
    };
    if is_json(listing) {
        return json(&entries);
    }
    entries
        .iter()
        .for_each(|entry| println!("{}", flow_line(entry)));
    Ok(0)
}

fn flow_line(flow: &FlowEntry) -> String {
    let way = |ends: &[String; 2], traffic: &[u64; 2]| {
        let [(src, sport), (dst, dport)] = [split(&ends[0]), split(&ends[1])];
        let [packets, bytes] = traffic;
        format!("src={src} dst={dst} sport={sport} dport={dport} packets={packets} bytes={bytes}")
    };
    let original = way(&flow.original, &flow.original_traffic);
    let reply = way(&flow.reply, &flow.reply_traffic);
    let unreplied = if flow.reply_traffic[0] == 0 {
        " [UNREPLIED]"
    } else {
        ""
    };
    let assured = if flow.assured { " [ASSURED]" } else { "" };
    let offload = if flow.offload { " [OFFLOAD]" } else { "" };
    let state = if flow.state.is_empty() {
        String::new()
    } else {
        format!("{} ", flow.state)
    };
    format!(
        "{:<6} {} {state}{original}{unreplied} {reply}{assured}{offload}",
        flow.protocol, flow.expires
    )
}

fn split(end: &str) -> (&str, &str) {
    end.rsplit_once(':').unwrap_or((end, "0"))
}

/// `stats`.
pub(crate) fn stats(client: &Client, listing: &Listing) -> Shown {
    let Reply::Stats(stats) = client.ask(&Request::Stats)? else {
        return Err(Failure::unexpected());
    };
    if is_json(listing) {
        return json(&stats);
    }
    let names = Names::of(client)?;
    let rows: Vec<_> = stats
        .ports
        .iter()
        .map(|(port, c)| {
            let numbers = [c.rx_frames, c.rx_bytes, c.tx_frames, c.tx_bytes, c.dropped];
            let cells = numbers.iter().map(u64::to_string);
            std::iter::once(names.port(*port)).chain(cells).collect()
        })
        .collect();
    table(
        &[
            "PORT",
            "RX FRAMES",
            "RX BYTES",
            "TX FRAMES",
            "TX BYTES",
            "DROPPED",
        ],
        &rows,
    );
    for (title, list) in [("drops", &stats.drops), ("counters", &stats.counters)] {
        println!("\n{title}:");
        list.iter()
            .filter(|(_, n)| *n > 0)
            .for_each(|(name, n)| println!("  {name:<32} {n}"));
    }
    Ok(0)
}

/// `status`.
pub(crate) fn status(client: &Client, listing: &Listing) -> Shown {
    let Reply::Status(status) = client.ask(&Request::Status)? else {
        return Err(Failure::unexpected());
    };
    if is_json(listing) {
        return json(&status);
    }
    let rights = if status.unprivileged {
        "unprivileged"
    } else {
        "privileged"
    };
    println!(
        "pontoon {} ({rights}), up {}",
        status.version,
        human(status.uptime)
    );
    println!("engine {}, keeper {}", status.engine.pid, status.keeper.pid);
    println!(
        "{} networks, {} containers",
        status.networks.len(),
        status.ports.len()
    );
    println!("receive rings: {} MiB", status.ring_bytes >> 20);
    println!("offload: {}", offload(&status.offload));
    if let Some(last_end) = &status.last_end {
        println!(
            "restarts: {}, the last one after {last_end}",
            status.restarts
        );
    }
    if let Some(trouble) = &status.trouble {
        println!("not written down: {trouble}");
    }
    Ok(0)
}

fn offload(OffloadView { mode, active, why }: &OffloadView) -> String {
    match why {
        Some(why) => format!("{mode}, but no flow is carried by the kernel: {why}"),
        None if *active => format!("{mode}: established flows are carried by the kernel"),
        None => mode.to_string(),
    }
}

/// Names of ports and networks by number.
struct Names {
    containers: Vec<ContainerView>,
    networks: Vec<NetworkView>,
}

impl Names {
    fn of(client: &Client) -> Result<Self, Failure> {
        let Reply::Containers(containers) = client.ask(&Request::Containers)? else {
            return Err(Failure::unexpected());
        };
        Ok(Self {
            containers,
            networks: network::all(client)?,
        })
    }

    fn port(&self, number: u32) -> String {
        let container = self
            .containers
            .iter()
            .find(|c| c.networks.iter().any(|e| e.port == number));
        container.map_or_else(|| format!("port{number}"), |c| c.name.clone())
    }

    fn network(&self, number: u32) -> String {
        let network = self.networks.iter().find(|n| n.number == number);
        network.map_or_else(|| format!("network{number}"), |n| n.name.clone())
    }
}

pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs())
}

/// A time span as Docker prints it.
pub(crate) fn human(seconds: u64) -> String {
    match seconds {
        0..=1 => "Less than a second".to_owned(),
        2..=59 => format!("{seconds} seconds"),
        60..=119 => "About a minute".to_owned(),
        120..=3599 => format!("{} minutes", seconds / 60),
        3600..=7199 => "About an hour".to_owned(),
        7200..=172_799 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
