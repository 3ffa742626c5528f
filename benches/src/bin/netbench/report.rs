//! What is printed and written at the end of a comparison.

use crate::compare::Outcome;
use crate::error::{Context, Error, Result};
use crate::machine::Machine;
use crate::measure::Measure;
use crate::options::CompareOptions;
use crate::results::{Comparison, Figure};
use crate::statistics::Summary;
use crate::system::SystemName;
use crate::table::Table;
use serde::Serialize;
use std::fs;
use std::path::Path;

/// Below this many rounds, medians say little.
const ENOUGH_ROUNDS: u32 = 5;

/// Everything that a comparison found; its JSON form is what `--json` writes.
#[derive(Serialize)]
pub(crate) struct Report {
    machine: Machine,
    rounds: u32,
    seconds: u64,
    systems: Vec<SystemName>,
    measures: Vec<Measure>,
    comparisons: Vec<Comparison>,
    figures: Vec<Figure>,
    failures: Vec<String>,
}

impl Report {
    /// Puts a report together.
    pub(crate) fn new(machine: Machine, options: &CompareOptions, outcome: Outcome) -> Self {
        let systems = options.systems();
        Self {
            machine,
            rounds: options.rounds,
            seconds: options.seconds,
            measures: options.measures(),
            comparisons: outcome.results.comparisons(&systems),
            figures: outcome.results.figures(),
            systems,
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
                "{}\n{} rounds of {} s\n",
                self.machine.label(),
                self.rounds,
                self.seconds
            ),
            figures(&self.figures),
        ];
        if !self.comparisons.is_empty() {
            parts.push(comparisons(&self.comparisons));
        }
        parts.extend(caveats(self.rounds, &[], &self.failures));
        parts.join("\n")
    }
}

/// What a reader must know besides the figures.
pub(crate) fn caveats(rounds: u32, notes: &[String], failures: &[String]) -> Vec<String> {
    let mut caveats = Vec::new();
    if rounds < ENOUGH_ROUNDS {
        caveats.push(format!(
            "Fewer than {ENOUGH_ROUNDS} rounds: take no decision by this.\n"
        ));
    }
    caveats.extend(notes.iter().map(|note| format!("{note}\n")));
    if !failures.is_empty() {
        caveats.push(format!("Failed:\n{}\n", failures.join("\n")));
    }
    caveats
}

/// Writes a report as JSON.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write_json(path: &Path, report: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(report).map_err(|error| Error::Unreadable {
        what: "report".to_owned(),
        reason: error.to_string(),
    })?;
    fs::write(path, text + "\n").context(format!("writing {}", path.display()))
}

fn figures(figures: &[Figure]) -> String {
    let mut table = Table::new(["measurement", "unit", "system", "median", "min–max"]);
    let mut sorted: Vec<&Figure> = figures.iter().collect();
    sorted.sort_by_key(|figure| (figure.measure, figure.metric, figure.system));
    for figure in sorted {
        table.push([
            figure.measure.label().to_owned(),
            figure.metric.label().to_owned(),
            figure.system.label().to_owned(),
            median(figure.summary),
            spread(figure.summary),
        ]);
    }
    table.render()
}

fn comparisons(comparisons: &[Comparison]) -> String {
    let mut table = Table::new([
        "measurement",
        "unit",
        "system",
        "median",
        "baseline",
        "median",
        "ratio by round",
        "min–max",
        "of medians",
        "budget",
        "verdict",
    ]);
    for entry in comparisons {
        table.push([
            entry.measure.label().to_owned(),
            entry.metric.label().to_owned(),
            entry.system.label().to_owned(),
            median(entry.summary),
            entry.baseline.label().to_owned(),
            median(entry.baseline_summary),
            median(entry.ratio_by_round),
            spread(entry.ratio_by_round),
            entry.ratio_of_medians.map_or_else(none, number),
            entry.budget.map_or_else(none, |budget| budget.label()),
            entry
                .verdict
                .map_or_else(none, |verdict| verdict.label().to_owned()),
        ]);
    }
    table.render()
}

/// The middle of a series, for tables.
pub(crate) fn median(summary: Option<Summary>) -> String {
    summary.map_or_else(none, |summary| number(summary.median))
}

/// The ends of a series, for tables.
pub(crate) fn spread(summary: Option<Summary>) -> String {
    summary.map_or_else(none, |summary| {
        format!("{}–{}", number(summary.min), number(summary.max))
    })
}

/// What stands in a table where there is nothing.
pub(crate) fn none() -> String {
    "-".to_owned()
}

/// Three figures that count.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{Metric, Reading};
    use crate::options::Options;
    use crate::results::Results;
    use clap::Parser;

    fn report(failures: &[&str]) -> Report {
        let line = "netbench --rounds 1 --systems kernel-bridge,pontoon --only tcp-1";
        let options = Options::try_parse_from(line.split(' ')).unwrap().compare;
        let mut results = Results::new(1);
        for (system, value) in [
            (SystemName::KernelBridge, 40.0),
            (SystemName::Pontoon, 30.0),
        ] {
            let reading = Reading {
                metric: Metric::Throughput,
                value,
            };
            results.record(0, system, Measure::Tcp1, &[reading]);
        }
        let failures = failures.iter().map(|&failure| failure.to_owned()).collect();
        Report::new(Machine::describe(), &options, Outcome { results, failures })
    }

    #[test]
    fn missed_budget_stands_in_the_table_and_in_the_json() {
        let report = report(&[]);
        let text = report.render();
        let row = "| 30.0   | kernel-bridge | 40.0   | 0.75           | 0.75–0.75 | 0.75       \
                   | ≥ 1.0  | MISSED  |";
        assert!(text.contains(row), "{text}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["comparisons"][0]["verdict"], "missed");
        assert_eq!(json["comparisons"][0]["budget"]["must"], 1.0);
        assert_eq!(json["comparisons"][0]["ratio_by_round"]["median"], 0.75);
    }

    #[test]
    fn failure_makes_the_report_incomplete() {
        let report = report(&["round 1: tcp-1 pontoon: no answer"]);
        assert!(!report.is_complete());
        assert!(report.render().contains("no answer"));
    }

    #[test]
    fn few_rounds_are_noted() {
        assert!(report(&[]).render().contains("Fewer than 5 rounds"));
    }

    #[test]
    fn numbers_keep_three_figures() {
        assert_eq!(
            [number(0.756), number(12.34), number(1234.5)],
            ["0.76", "12.3", "1234"]
        );
    }
}
