//! `netbench clients`: what clients of the API cost the traffic between two containers.

mod company;
mod racer;

use crate::compare::progress;
use crate::error::Result;
use crate::lab::{FIRST, Lab, SECOND, SUBNET};
use crate::machine::Machine;
use crate::measure::{Iperf, Measure, Metric, Reading, warm_up};
use crate::options::ClientsOptions;
use crate::processor;
use crate::report::{caveats, median, spread};
use crate::statistics::{Summary, ratios};
use crate::system::{Endpoints, Engine};
use crate::table::Table;
use company::Company;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// What is measured.
const MEASURES: [Measure; 3] = [Measure::Tcp1, Measure::TcpRr, Measure::UdpRr];

/// Which figure of which company.
type Key = (Measure, Metric, Company);

/// What `netbench clients` found; its JSON form is what `--json` writes.
#[derive(Serialize)]
pub(crate) struct ClientsReport {
    machine: Machine,
    rounds: u32,
    seconds: u64,
    figures: Vec<Figure>,
}

/// The values of one figure.
#[derive(Debug, Serialize)]
struct Figure {
    measure: Measure,
    metric: Metric,
    company: Company,
    summary: Option<Summary>,
    /// Quotients of each round with that of nobody else.
    ratio_by_round: Option<Summary>,
    values: Vec<f64>,
}

/// Measures round by round, beside everybody in turn.
///
/// # Errors
/// When Pontoon or a tool is missing, a measurement fails, or a client is refused.
pub(crate) fn run(options: &ClientsOptions) -> Result<ClientsReport> {
    let machine = Machine::describe();
    let (iperf, lab) = (Iperf::locate()?, Lab::create()?);
    let engine = Engine::new(&options.common.pontoon()?, "clients")?;
    let carrier = lab.host.run(|| {
        engine.create_network(SUBNET, "user")?;
        engine.attach(&lab.first, "c1", FIRST)?;
        engine.attach(&lab.second, "c2", SECOND)?;
        Ok(engine.processes()?.engine)
    })?;
    let ends = Endpoints {
        client: &lab.first,
        server: &lab.second,
        address: SECOND,
        shift: 0,
    };
    warm_up(ends)?;
    let duration = Duration::from_secs(options.seconds);
    let measured = measure(options.rounds, &engine.socket(), |measure| {
        processor::watch(Some(carrier), || measure.run(&iperf, ends, duration))
    })?;
    lab.host.run(|| engine.shutdown())?;
    Ok(ClientsReport {
        machine,
        rounds: options.rounds,
        seconds: options.seconds,
        figures: figures(&measured),
    })
}

fn measure(
    rounds: u32,
    socket: &Path,
    one: impl Fn(Measure) -> Result<Vec<Reading>>,
) -> Result<BTreeMap<Key, Vec<f64>>> {
    let mut all: BTreeMap<Key, Vec<f64>> = BTreeMap::new();
    for round in 0..rounds {
        for measure in MEASURES {
            for company in in_turn(round) {
                progress(&format!(
                    "round {}: {} beside {}",
                    round + 1,
                    measure.label(),
                    company.label()
                ));
                let (mut readings, value) = company.beside(socket, || one(measure))?;
                let metric = Metric::Requests;
                readings.push(Reading { metric, value });
                for Reading { metric, value } in readings {
                    all.entry((measure, metric, company))
                        .or_default()
                        .push(value);
                }
            }
        }
    }
    Ok(all)
}

/// The companies in the order of a round: every other one backwards, so that none always comes after the same
/// neighbour.
fn in_turn(round: u32) -> Vec<Company> {
    let mut order = Company::ALL.to_vec();
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

fn figures(measured: &BTreeMap<Key, Vec<f64>>) -> Vec<Figure> {
    let figure = |(&(measure, metric, company), values): (&Key, &Vec<f64>)| {
        let rounds = |values: &[f64]| values.iter().copied().map(Some).collect::<Vec<_>>();
        let alone = measured.get(&(measure, metric, Company::Nobody));
        let compared = company != Company::Nobody && metric.is_compared();
        let ratio_by_round = alone
            .filter(|_| compared)
            .and_then(|alone| Summary::of(&ratios(&rounds(values), &rounds(alone))));
        Figure {
            measure,
            metric,
            company,
            summary: Summary::of(values),
            ratio_by_round,
            values: values.clone(),
        }
    };
    measured.iter().map(figure).collect()
}

impl ClientsReport {
    /// The report as text.
    pub(crate) fn render(&self) -> String {
        let mut table = Table::new([
            "measurement",
            "unit",
            "beside",
            "median",
            "min–max",
            "of nobody's, by round",
            "min–max",
        ]);
        for figure in &self.figures {
            table.push([
                figure.measure.label().to_owned(),
                figure.metric.label().to_owned(),
                figure.company.label().to_owned(),
                median(figure.summary),
                spread(figure.summary),
                median(figure.ratio_by_round),
                spread(figure.ratio_by_round),
            ]);
        }
        let head = format!(
            "{}\n{} rounds of {} s\n",
            self.machine.label(),
            self.rounds,
            self.seconds
        );
        let mut parts = vec![head, table.render()];
        parts.extend(caveats(self.rounds, &[], &[]));
        parts.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_compared_with_nobodys_of_the_same_round() {
        let key = |company| (Measure::Tcp1, Metric::Throughput, company);
        let measured = BTreeMap::from([
            (key(Company::Nobody), vec![10.0, 20.0, 40.0]),
            (key(Company::Racing), vec![5.0, 10.0, 30.0]),
        ]);
        let figures = figures(&measured);
        assert_eq!(figures[0].ratio_by_round, None);
        let racing = figures[1].ratio_by_round.unwrap();
        assert_eq!((racing.median, racing.max), (0.5, 0.75));
    }

    #[test]
    fn every_other_round_goes_backwards() {
        assert_eq!(in_turn(0)[0], in_turn(1)[3]);
        assert_eq!(in_turn(0), in_turn(2));
    }
}
