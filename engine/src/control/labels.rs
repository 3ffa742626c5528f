//! Labels: what whoever makes a network or a container notes about it. Docker's `--label`.

use super::Invalid;
use super::api::Labels;

const FIELD: &str = "--label";
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
}
