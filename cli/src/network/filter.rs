//! `--filter`: which networks are listed or pruned.

use pontoon_engine::control::api::{NetworkView, PruneFilter};
use pontoon_engine::control::labels::LabelFilter;
use pontoon_engine::control::state::DEFAULT_NETWORK;

use super::{inspect, time};
use crate::client::Failure;

/// Filters of a listing. Of several of one kind one must hold, but every label.
#[derive(Debug, Default)]
pub(super) struct Filters {
    names: Vec<String>,
    ids: Vec<String>,
    drivers: Vec<String>,
    scopes: Vec<String>,
    kinds: Vec<Kind>,
    labels: Vec<LabelFilter>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Builtin,
    Custom,
}

impl Filters {
    pub(super) fn parse(arguments: &[String]) -> Result<Self, Failure> {
        let mut filters = Self::default();
        for argument in arguments {
            let (key, value) = split(argument)?;
            let value = value.to_owned();
            match key {
                "name" => filters.names.push(value),
                "id" => filters.ids.push(value),
                "driver" => filters.drivers.push(value),
                "scope" => filters.scopes.push(value),
                "type" => filters.kinds.push(kind(&value)?),
                "label" => filters.labels.push(LabelFilter::has(&value)),
                _ => return Err(invalid(key)),
            }
        }
        Ok(filters)
    }

    /// Whether a network is one of those that were asked for. As Docker, by parts of names and ids.
    pub(super) fn match_network(&self, network: &NetworkView) -> bool {
        let any = |wanted: &[String], holds: &dyn Fn(&str) -> bool| {
            wanted.is_empty() || wanted.iter().any(|wanted| holds(wanted))
        };
        let own_kind = if network.name == DEFAULT_NETWORK {
            Kind::Builtin
        } else {
            Kind::Custom
        };
        any(&self.names, &|name| network.name.contains(name))
            && any(&self.ids, &|id| network.id.contains(id))
            && any(&self.drivers, &|driver| driver == inspect::DRIVER)
            && any(&self.scopes, &|scope| scope == inspect::SCOPE)
            && (self.kinds.is_empty() || self.kinds.contains(&own_kind))
            && self
                .labels
                .iter()
                .all(|label| label.matches(&network.labels))
    }
}

/// Reads the filters of `prune`; spans of time count back from `now`, nanoseconds of Unix time.
pub(super) fn prune(arguments: &[String], now: u64) -> Result<PruneFilter, Failure> {
    let mut filter = PruneFilter::default();
    for argument in arguments {
        match split(argument)? {
            ("label", value) => filter.labels.push(LabelFilter::has(value)),
            ("label!", value) => filter.labels.push(LabelFilter::has_not(value)),
            ("until", value) => {
                let until = time::parse_until(value, now);
                let why =
                    "expected a span as 10m or 1h30m, seconds of Unix time, or 2006-01-02T15:04:05";
                let until = until.ok_or_else(|| {
                    Failure::own(
                        "--filter",
                        format!("until={}: {why}", value.escape_default()),
                    )
                })?;
                filter.created_before_nanos = Some(until);
            }
            (key, _) => return Err(invalid(key)),
        }
    }
    Ok(filter)
}

fn split(argument: &str) -> Result<(&str, &str), Failure> {
    argument.split_once('=').ok_or_else(|| {
        let why = format!(
            "bad format of filter \"{}\" (expected name=value)",
            argument.escape_default()
        );
        Failure::own("--filter", why)
    })
}

fn kind(text: &str) -> Result<Kind, Failure> {
    match text {
        "builtin" => Ok(Kind::Builtin),
        "custom" => Ok(Kind::Custom),
        other => {
            let why = format!("invalid filter: 'type'='{}'", other.escape_default());
            Err(Failure::own("--filter", why))
        }
    }
}

fn invalid(key: &str) -> Failure {
    let shown: String = key
        .chars()
        .take(64)
        .flat_map(char::escape_default)
        .collect();
    Failure::own("--filter", format!("invalid filter '{shown}'"))
}
