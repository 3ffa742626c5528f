//! Reading a service of a topology file.

use std::net::IpAddr;

use pontoon_engine::control::labels;
use pontoon_engine::control::name::check_name;

use super::env_file::{env_files, set};
use super::fields::{Place, Table};
use super::file::{Condition, Service};
use super::joins::joins;
use super::ports::ports;
use super::words;
use super::yaml::Fault;

/// Reads what stands under a service's name.
pub(super) fn service(name: &str, place: &Place<'_>) -> Result<Service, Fault> {
    let mut table = place.table()?;
    refuse_images(&mut table)?;
    table.read("restart", never)?;
    let networks = joins(&mut table)?;
    let service = Service {
        line: place.line(),
        name: name.to_owned(),
        container_name: table.read("container_name", named)?,
        command: whole_command(&mut table)?,
        environment: environment(&mut table)?,
        working_dir: table.read("working_dir", Place::text)?,
        hostname: table.read("hostname", Place::text)?,
        mac_address: table.read("mac_address", Place::text)?,
        networks,
        ports: table.read("ports", ports)?.unwrap_or_default(),
        depends_on: table.read("depends_on", depends_on)?.unwrap_or_default(),
        dns: table.read("dns", addresses)?.unwrap_or_default(),
        dns_search: table.read("dns_search", Place::texts)?.unwrap_or_default(),
        dns_opt: table.read("dns_opt", Place::texts)?.unwrap_or_default(),
        extra_hosts: table.read("extra_hosts", extra_hosts)?.unwrap_or_default(),
        labels: table.read("labels", labels)?.unwrap_or_default(),
    };
    table.finish(known_of_services)?;
    if service.command.is_empty() {
        let what = "expected command: or entrypoint: what to run on the host's files";
        return Err(place.fault(what));
    }
    Ok(service)
}

fn refuse_images(table: &mut Table<'_>) -> Result<(), Fault> {
    for key in ["image", "build"] {
        if let Some(place) = table.take(key) {
            let what = "Pontoon is a network and runs no images: a container is a command on the host's \
                        files, with a network of its own. Take this line away and give command:";
            return Err(place.fault(what));
        }
    }
    Ok(())
}

/// What compose has and Pontoon does not, where a reason helps.
fn known_of_services(key: &str) -> Option<&'static str> {
    match key {
        "volumes" | "tmpfs" | "configs" | "secrets" => {
            Some("not supported: commands see the host's files as they are")
        }
        "deploy" | "healthcheck" => Some("not supported: a container ends with its command"),
        "expose" => Some("not supported: all ports are open within a network"),
        _ => None,
    }
}

/// Reads a name of a container or network.
pub(super) fn named(place: &Place<'_>) -> Result<String, Fault> {
    let name = place.text()?;
    check_name("", &name).map_err(|error| place.fault(error.reason))?;
    Ok(name)
}

/// `entrypoint`, and `command` behind it.
fn whole_command(table: &mut Table<'_>) -> Result<Vec<String>, Fault> {
    let mut whole = table.read("entrypoint", command)?.unwrap_or_default();
    whole.extend(table.read("command", command)?.unwrap_or_default());
    Ok(whole)
}

fn command(place: &Place<'_>) -> Result<Vec<String>, Fault> {
    if place.is_list() {
        return place.texts();
    }
    let text = place.text()?;
    words::split(&text).map_err(|what| place.fault(what))
}

/// The variables of `env_file`, and those of `environment`, which win.
fn environment(table: &mut Table<'_>) -> Result<Vec<(String, String)>, Fault> {
    let mut variables = table.read("env_file", env_files)?.unwrap_or_default();
    for (name, value) in table
        .read("environment", own_variables)?
        .unwrap_or_default()
    {
        set(&mut variables, name, value);
    }
    Ok(variables)
}

/// Variables; one without a value has that of the environment, and is not set when it has none.
fn own_variables(place: &Place<'_>) -> Result<Vec<(String, String)>, Fault> {
    let pairs = place.pairs('=')?;
    if pairs.iter().any(|(name, _)| name.is_empty()) {
        return Err(place.fault("a variable without a name"));
    }
    let value = |(name, value): (String, Option<String>)| {
        let value = value.or_else(|| place.surroundings().variable(&name))?;
        Some((name, value))
    };
    Ok(pairs.into_iter().filter_map(value).collect())
}

/// Only `no`: nothing starts a container again.
fn never(place: &Place<'_>) -> Result<(), Fault> {
    match place.text()?.as_str() {
        "no" => Ok(()),
        other => {
            let shown = other.escape_default();
            let what = format!("{shown}: expected no: a container ends with its command");
            Err(place.fault(what))
        }
    }
}

/// Reads an address.
pub(super) fn address(place: &Place<'_>) -> Result<IpAddr, Fault> {
    place.parsed("an address")
}

fn addresses(place: &Place<'_>) -> Result<Vec<IpAddr>, Fault> {
    let texts = place.texts()?;
    let address = |text: &String| {
        let wrong = |_| place.fault(format!("{}: expected an address", text.escape_default()));
        text.parse().map_err(wrong)
    };
    texts.iter().map(address).collect()
}

fn depends_on(place: &Place<'_>) -> Result<Vec<(String, Condition)>, Fault> {
    if !place.is_map() {
        let names = place.texts()?.into_iter();
        return Ok(names.map(|name| (name, Condition::Started)).collect());
    }
    let entry = |(name, place): &(&str, Place<'_>)| {
        let mut table = place.table()?;
        let condition = table.read("condition", condition)?;
        table.finish(|_| None)?;
        Ok(((*name).to_owned(), condition.unwrap_or(Condition::Started)))
    };
    place.entries()?.iter().map(entry).collect()
}

fn condition(place: &Place<'_>) -> Result<Condition, Fault> {
    match place.text()?.as_str() {
        "service_started" => Ok(Condition::Started),
        "service_completed_successfully" => Ok(Condition::Completed),
        other => {
            let shown = other.escape_default();
            let what =
                format!("{shown}: expected service_started or service_completed_successfully");
            Err(place.fault(what))
        }
    }
}

/// Lines of `/etc/hosts`, as `--add-host` takes them.
fn extra_hosts(place: &Place<'_>) -> Result<Vec<String>, Fault> {
    // In lists compose knows both signs.
    let between = |(name, value): (String, Option<String>)| match value {
        Some(value) => Ok(format!("{name}:{value}")),
        None if name.contains('=') => Ok(name.replacen('=', ":", 1)),
        None => Err(place.fault(format!("{}: expected NAME:ADDRESS", name.escape_default()))),
    };
    place.pairs(':')?.into_iter().map(between).collect()
}

/// Reads labels, as `--label` takes them.
pub(super) fn labels(place: &Place<'_>) -> Result<Vec<String>, Fault> {
    let pair =
        |(name, value): (String, Option<String>)| format!("{name}={}", value.unwrap_or_default());
    let labels: Vec<_> = place.pairs('=')?.into_iter().map(pair).collect();
    labels::parse(&labels).map_err(|error| place.fault(error.reason))?;
    Ok(labels)
}
