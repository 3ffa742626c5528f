//! A run: every system built once, then measured in alternation.

use crate::error::{Error, Result};
use crate::measure::{Iperf, Measure, Reading, warm_up};
use crate::options::CompareOptions;
use crate::processor;
use crate::results::Results;
use crate::system::{System, SystemName};
use std::path::Path;
use std::time::Duration;

/// What a run found.
pub(crate) struct Outcome {
    /// The figures.
    pub(crate) results: Results,
    /// Measurements that failed, in words.
    pub(crate) failures: Vec<String>,
}

/// A built system.
struct Built {
    name: SystemName,
    system: Box<dyn System>,
}

/// Builds the chosen systems, measures them round by round and takes them down again.
///
/// # Errors
/// When a system cannot be built or a tool is missing. A failed measurement is no error: it
/// is listed in the outcome.
pub(crate) fn run(options: &CompareOptions) -> Result<Outcome> {
    let iperf = Iperf::locate()?;
    let pontoon = options.common.pontoon()?;
    let built: Vec<Built> = options
        .systems()
        .into_iter()
        .map(|name| {
            progress(&format!("building {}", name.label()));
            build(name, &pontoon)
        })
        .collect::<Result<_>>()?;
    let outcome = measure(options, &iperf, &built);
    built
        .into_iter()
        .try_for_each(|mut built| built.system.teardown())?;
    Ok(outcome)
}

fn build(name: SystemName, pontoon: &Path) -> Result<Built> {
    let mut system = name.prepare(pontoon)?;
    system.build()?;
    warm_up(system.endpoints()).map_err(|error| Error::unreachable(name, &error))?;
    Ok(Built { name, system })
}

fn measure(options: &CompareOptions, iperf: &Iperf, built: &[Built]) -> Outcome {
    let rounds = options.rounds as usize;
    let duration = Duration::from_secs(options.seconds);
    let mut outcome = Outcome {
        results: Results::new(rounds),
        failures: Vec::new(),
    };
    for round in 0..rounds {
        for measure in options.measures() {
            for Built { name, system } in in_turn(round, built) {
                if measure.applies_to(name.route()) {
                    let readings = processor::watch(system.carrier(), || {
                        measure.run(iperf, system.endpoints(), duration)
                    });
                    outcome.take(round, *name, measure, readings);
                }
            }
        }
    }
    outcome
}

/// The systems in the order of a round: every other one backwards, so that none always comes
/// after the same neighbour.
fn in_turn(round: usize, built: &[Built]) -> Vec<&Built> {
    let mut order: Vec<&Built> = built.iter().collect();
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

impl Outcome {
    fn take(
        &mut self,
        round: usize,
        system: SystemName,
        measure: Measure,
        readings: Result<Vec<Reading>>,
    ) {
        let place = format!(
            "round {}: {} {}",
            round + 1,
            measure.label(),
            system.label()
        );
        match readings {
            Ok(readings) => {
                let value =
                    |reading: &Reading| format!("{:.2} {}", reading.value, reading.metric.label());
                let values: Vec<String> = readings.iter().map(value).collect();
                progress(&format!("{place}: {}", values.join(", ")));
                self.results.record(round, system, measure, &readings);
            }
            Err(error) => {
                progress(&format!("{place}: FAILED: {error}"));
                self.failures.push(format!("{place}: {error}"));
            }
        }
    }
}

/// Tells whoever waits what goes on.
pub(crate) fn progress(line: &str) {
    eprintln!("netbench: {line}");
}
