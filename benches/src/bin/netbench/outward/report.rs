//! What is printed and written at the end of `netbench outward`.

use super::budget::Judged;
use super::figures::Figure;
use super::peer::PeerName;
use super::{Outcome, Subject};
use crate::machine::Machine;
use crate::options::OutwardOptions;
use crate::report::{caveats, median, none, spread};
use crate::table::Table;
use serde::Serialize;

/// Everything that a run found; its JSON form is what `--json` writes.
#[derive(Serialize)]
pub(crate) struct OutwardReport {
    machine: Machine,
    packages: Vec<String>,
    rounds: u32,
    seconds: u64,
    figures: Vec<Figure>,
    judged: Vec<Judged>,
    notes: Vec<String>,
    failures: Vec<String>,
}

impl OutwardReport {
    /// Puts a report together.
    pub(crate) fn new(
        machine: Machine,
        packages: &[String],
        options: &OutwardOptions,
        outcome: Outcome,
    ) -> Self {
        let mut pontoon = Subject::all(&options.peers(), &options.mtu);
        pontoon.retain(|subject| subject.peer == PeerName::Pontoon);
        Self {
            machine,
            packages: packages.to_vec(),
            rounds: options.rounds,
            seconds: options.seconds,
            figures: outcome.figures.all(),
            judged: outcome.figures.judge(&pontoon),
            notes: outcome.notes,
            failures: outcome.failures,
        }
    }

    /// Whether every measurement could be made.
    pub(crate) fn is_complete(&self) -> bool {
        self.failures.is_empty()
    }

    /// The report as text.
    pub(crate) fn render(&self) -> String {
        let mut parts = vec![
            format!(
                "{}\n{}\n{} rounds of {} s\n",
                self.machine.label(),
                self.packages.join(", "),
                self.rounds,
                self.seconds
            ),
            figures(&self.figures),
        ];
        if !self.judged.is_empty() {
            parts.push(judged(&self.judged));
        }
        parts.extend(caveats(self.rounds, &self.notes, &self.failures));
        parts.join("\n")
    }
}

fn figures(figures: &[Figure]) -> String {
    let mut table = Table::new(["way", "measurement", "unit", "peer", "median", "min–max"]);
    for figure in figures {
        table.push([
            figure.way.label().to_owned(),
            figure.probe.label().to_owned(),
            figure.metric.label().to_owned(),
            figure.subject.to_string(),
            median(figure.summary),
            spread(figure.summary),
        ]);
    }
    table.render()
}

fn judged(judged: &[Judged]) -> String {
    let mut table = Table::new([
        "way",
        "measurement",
        "unit",
        "pontoon",
        "median",
        "against",
        "median",
        "ratio by round",
        "min–max",
        "must",
        "goal",
        "verdict",
    ]);
    for entry in judged {
        table.push([
            entry.way.label().to_owned(),
            entry.probe.label().to_owned(),
            entry.metric.label().to_owned(),
            entry.subject.mtu.map_or_else(none, |mtu| mtu.to_string()),
            median(entry.summary),
            entry.against.to_string(),
            median(entry.summary_against),
            median(entry.ratio_by_round),
            spread(entry.ratio_by_round),
            entry.budget.label(),
            format!("{:.1}", entry.budget.goal),
            entry.verdict.label().to_owned(),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{Metric, Reading};
    use crate::options::{Command, Options};
    use crate::outward::Probe;
    use crate::outward::figures::Figures;
    use crate::outward::peer::Way;
    use clap::Parser;

    fn report(failures: Vec<String>) -> OutwardReport {
        let line = "netbench outward --rounds 1 --mtu 1500 --peers slirp4netns,pontoon";
        let options = Options::try_parse_from(line.split(' ')).unwrap();
        let Some(Command::Outward(options)) = options.command else {
            panic!("another command")
        };
        let mut figures = Figures::new(1);
        for (peer, value) in [(PeerName::Slirp4netns, 10.0), (PeerName::Pontoon, 15.0)] {
            let subject = Subject {
                peer,
                mtu: Some(1500),
            };
            let reading = Reading {
                metric: Metric::Throughput,
                value,
            };
            figures.record(0, (subject, Way::Inward, Probe::Tcp4), &[reading]);
        }
        let outcome = Outcome {
            figures,
            failures,
            notes: vec!["something was left out".to_owned()],
        };
        OutwardReport::new(
            Machine::describe(),
            &["passt_1".to_owned()],
            &options,
            outcome,
        )
    }

    #[test]
    fn missed_budget_stands_in_the_table_and_in_the_json() {
        let report = report(Vec::new());
        let text = report.render();
        let row = "| 15.0   | slirp4netns 1500 | 10.0   | 1.50           | 1.50–1.50 | ≥ 2.0 | 3.0  \
                   | MISSED  |";
        assert!(text.contains(row), "{text}");
        assert!(text.contains("passt_1") && text.contains("something was left out"));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["judged"][0]["peer"], "pontoon");
        assert_eq!(json["judged"][0]["verdict"], "missed");
        assert_eq!(json["figures"][1]["mtu"], 1500);
    }

    #[test]
    fn failure_makes_the_report_incomplete() {
        let report = report(vec!["pontoon 1500: no uplink".to_owned()]);
        assert!(!report.is_complete());
        assert!(report.render().contains("no uplink"));
    }
}
