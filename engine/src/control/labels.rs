//! Labels: what whoever makes a network or a container notes about it. Docker's `--label`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Invalid;
use super::api::Labels;

const FIELD: &str = "labels";
/// Most labels of one thing.
const MAX_LABELS: usize = 128;
/// Longest label with its value, in bytes.
const MAX_LABEL: usize = 4096;

/// Reads `--label` arguments, `NAME=VALUE` or `NAME` alone; of two with the same name the last counts.
///
/// # Errors
/// As [`check`].
pub fn parse(arguments: &[String]) -> Result<Labels, Invalid> {
    let split = |text: &String| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        (name.to_owned(), value.to_owned())
    };
    let labels = arguments.iter().map(split).collect();
    check(&labels)?;
    Ok(labels)
}

/// Checks labels.
///
/// # Errors
/// A name is empty or holds white space, a label is too long, or there are too many.
pub fn check(labels: &Labels) -> Result<(), Invalid> {
    if labels.len() > MAX_LABELS {
        let what = format!("{} labels: at most {MAX_LABELS}", labels.len());
        return Err(Invalid::new(FIELD, what));
    }
    let is_wrong = |(name, value): &(&String, &String)| {
        let is_space = |c: char| c.is_whitespace() || c.is_control();
        name.is_empty() || name.contains(is_space) || name.len() + value.len() > MAX_LABEL
    };
    match labels.iter().find(is_wrong) {
        None => Ok(()),
        Some((name, _)) => {
            let shown: String = name
                .chars()
                .take(32)
                .flat_map(char::escape_default)
                .collect();
            let what = format!(
                "invalid label \"{shown}\": expected NAME=VALUE, without white space in the name, up to \
                 {MAX_LABEL} bytes"
            );
            Err(Invalid::new(FIELD, what))
        }
    }
}

/// What is asked of the labels of something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LabelFilter {
    /// There is one of this name, with this value where there is one.
    Has(String, Option<String>),
    /// There is none such.
    HasNot(String, Option<String>),
}

impl LabelFilter {
    /// `NAME` or `NAME=VALUE` is among the labels.
    pub fn has(text: &str) -> Self {
        let (name, value) = split(text);
        Self::Has(name, value)
    }

    /// `NAME` or `NAME=VALUE` is not among the labels.
    pub fn has_not(text: &str) -> Self {
        let (name, value) = split(text);
        Self::HasNot(name, value)
    }

    /// Whether `labels` are as asked for.
    pub fn matches(&self, labels: &Labels) -> bool {
        let holds = |name: &String, value: &Option<String>| {
            let found = labels.get(name);
            found.is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
        };
        match self {
            Self::Has(name, value) => holds(name, value),
            Self::HasNot(name, value) => !holds(name, value),
        }
    }
}

fn split(text: &str) -> (String, Option<String>) {
    match text.split_once('=') {
        None => (text.to_owned(), None),
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Labels, Invalid> {
        let arguments: Vec<_> = arguments.iter().map(|text| (*text).to_owned()).collect();
        parse(&arguments)
    }

    #[test]
    fn a_label_has_a_name_and_perhaps_a_value() {
        let labels = parsed(&["a=1", "b", "c=x=y", "a=2"]).unwrap();
        let shown: Vec<_> = labels.iter().map(|(n, v)| format!("{n}:{v}")).collect();
        assert_eq!(shown, ["a:2", "b:", "c:x=y"]);
    }

    #[test]
    fn what_cannot_be_a_label_is_named() {
        let long = format!("long={}", "x".repeat(MAX_LABEL));
        for bad in ["=value", "", "two words=1", "line\n=1", long.as_str()] {
            let error = parsed(&[bad]).unwrap_err();
            assert_eq!(error.field, FIELD, "{bad}");
            assert!(error.to_string().len() < 250 && !error.to_string().contains('\n'));
        }
        let many: Vec<_> = (0..=MAX_LABELS).map(|n| n.to_string()).collect();
        assert!(parse(&many).unwrap_err().reason.contains("at most 128"));
    }

    #[test]
    fn filters_ask_for_a_name_or_for_its_value_too() {
        let labels = Labels::from([("team".to_owned(), "blue".to_owned())]);
        for (filter, expected) in [
            ("team", true),
            ("team=blue", true),
            ("team=", false),
            ("team=red", false),
            ("tea", false),
        ] {
            assert_eq!(
                LabelFilter::has(filter).matches(&labels),
                expected,
                "{filter}"
            );
            assert_eq!(
                LabelFilter::has_not(filter).matches(&labels),
                !expected,
                "{filter}"
            );
        }
    }
}
