//! `events`: what happens, as it happens.

use std::io::{self, Write};

use pontoon_engine::control::event::{Event, Record};

use crate::args::Listing;
use crate::client::{Client, Failure};
use crate::is_json;
use crate::network::rfc3339;

/// Prints events until the engine ends, or whoever reads them.
pub(crate) fn watch(listing: &Listing) -> Result<u8, Failure> {
    let mut events = Client::open()?.watch()?;
    while let Some(lines) = events.next_lines()? {
        let mut out = io::stdout().lock();
        for line in lines.lines() {
            if is_json(listing) {
                writeln!(out, "{line}")?;
            } else {
                let record: Record = serde_json::from_str(line).map_err(io::Error::from)?;
                writeln!(
                    out,
                    "{} {}",
                    rfc3339(record.time_nanos),
                    describe(&record.event)
                )?;
            }
        }
        out.flush()?;
    }
    Ok(0)
}

fn describe(event: &Event) -> String {
    match event {
        Event::NetworkMade { name, .. } => format!("network {name} made"),
        Event::NetworkRemoved { name, .. } => format!("network {name} removed"),
        Event::ContainerStarted { name, .. } => format!("container {name} started"),
        Event::ContainerEnded {
            name, exit_status, ..
        } => match exit_status {
            Some(status) => format!("container {name} ended ({status})"),
            None => format!("container {name} ended"),
        },
        Event::Connected { container, network } => {
            format!("container {container} joined {network}")
        }
        Event::Disconnected { container, network } => {
            format!("container {container} left {network}")
        }
        Event::PortPublished { container, port } => {
            format!("container {container} published {port}")
        }
        Event::PortUnpublished { container, port } => {
            format!("container {container} unpublished {port}")
        }
        Event::Fault { what, .. } => format!("fault: {what}"),
        Event::Mended { what, .. } => format!("mended: {what}"),
        Event::Lost { count } => format!("{count} events were lost here"),
    }
}
