//! Files of variables, as compose's `env_file` names them: `NAME=VALUE` on lines of their own.

use super::fields::{Place, Surroundings};
use super::interpolate::interpolate;
use super::yaml::Fault;

/// Variables, in the order in which they were named first.
pub(super) type Variables = Vec<(String, String)>;

/// Gives a variable its value.
pub(super) fn set(variables: &mut Variables, name: String, value: String) {
    match variables.iter_mut().find(|(other, _)| *other == name) {
        Some((_, before)) => *before = value,
        None => variables.push((name, value)),
    }
}

/// Reads `env_file`: a path, or a list of paths and of `{path, required}`. Later files win.
pub(super) fn env_files(place: &Place<'_>) -> Result<Variables, Fault> {
    let mut variables = Variables::new();
    let places = match place.is_list() {
        true => place.list()?,
        false => vec![place.clone()],
    };
    for place in &places {
        let (path, required) = path(place)?;
        match place.surroundings().file(&path) {
            Ok(text) => read(&text, place.surroundings(), &mut variables)
                .map_err(|what| place.fault(format!("{}:{what}", path.escape_default())))?,
            Err(error) if required || error.kind() != std::io::ErrorKind::NotFound => {
                return Err(place.fault(format!("{}: {error}", path.escape_default())));
            }
            Err(_) => {}
        }
    }
    Ok(variables)
}

fn path(place: &Place<'_>) -> Result<(String, bool), Fault> {
    if !place.is_map() {
        return Ok((place.text()?, true));
    }
    let mut table = place.table()?;
    let path = table.read("path", Place::text)?;
    let required = table.read("required", Place::flag)?.unwrap_or(true);
    table.finish(|_| None)?;
    let path = path.ok_or_else(|| place.fault("expected path:"))?;
    Ok((path, required))
}

/// Reads a file's lines. A value may refer to variables before it, and to those of the environment.
///
/// # Errors
/// The first line that is wrong, and why.
fn read(
    text: &str,
    surroundings: &dyn Surroundings,
    variables: &mut Variables,
) -> Result<(), String> {
    for (nth, line) in text.lines().enumerate() {
        let known = |name: &str| {
            let own = variables.iter().find(|(other, _)| other == name);
            own.map(|(_, value)| value.clone())
                .or_else(|| surroundings.variable(name))
        };
        let pair = pair(line, &known).map_err(|what| format!("{}: {what}", nth + 1))?;
        if let Some((name, value)) = pair {
            set(variables, name, value);
        }
    }
    Ok(())
}

/// What a line says; a name alone has the environment's value.
fn pair(
    line: &str,
    known: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<(String, String)>, String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
    let (name, value) = match line.split_once('=') {
        Some((name, value)) => (name.trim_end(), Some(value.trim_start())),
        None => (line, None),
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if name.is_empty() || !name.chars().all(is_name) {
        return Err(format!("{}: expected NAME=VALUE", name.escape_default()));
    }
    let value = match value {
        Some(text) => Some(read_value(text, known)?),
        None => known(name),
    };
    Ok(value.map(|value| (name.to_owned(), value)))
}

/// A value: what stands between single quotes is taken as it is; between double quotes backslashes have
/// a meaning, and variables as elsewhere; without quotes it ends before ` #`.
fn read_value(text: &str, known: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    if let Some(quoted) = text.strip_prefix('\'') {
        let (value, rest) = quoted.split_once('\'').ok_or("a \' that is not closed")?;
        return nothing_after(rest).map(|()| value.to_owned());
    }
    if let Some(quoted) = text.strip_prefix('"') {
        let (value, rest) = unescape(quoted)?;
        nothing_after(rest)?;
        return interpolate(&value, known);
    }
    let comment = text.starts_with('#').then_some(0).or(text.find(" #"));
    let value = comment.map_or(text, |begin| &text[..begin]);
    interpolate(value.trim_end(), known)
}

fn nothing_after(rest: &str) -> Result<(), String> {
    match rest.trim_start() {
        rest if rest.is_empty() || rest.starts_with('#') => Ok(()),
        rest => Err(format!("{} after the quotes", rest.escape_default())),
    }
}

/// What stands before the closing quote, and what stands behind it.
fn unescape(text: &str) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut rest = text.char_indices();
    while let Some((at, c)) = rest.next() {
        match c {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match rest.next().map(|(_, c)| c) {
                Some('n') => value.push('\n'),
                Some('r') => value.push('\r'),
                Some('t') => value.push('\t'),
                // Doubled, it is no variable's.
                Some('$') => value.push_str("$$"),
                Some(c @ ('"' | '\\')) => value.push(c),
                Some(c) => value.extend(['\\', c]),
                None => break,
            },
            c => value.push(c),
        }
    }
    Err("a \" that is not closed".to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Outside;

    impl Surroundings for Outside {
        fn variable(&self, name: &str) -> Option<String> {
            (name == "OUT").then(|| "side".to_owned())
        }

        fn file(&self, _: &str) -> std::io::Result<String> {
            Err(std::io::ErrorKind::NotFound.into())
        }
    }

    fn all(text: &str) -> Result<Variables, String> {
        let mut variables = Variables::new();
        read(text, &Outside, &mut variables).map(|()| variables)
    }

    #[test]
    fn every_form_of_a_line_is_read() {
        for (line, expected) in [
            ("A=1", "1"),
            (" export A = a b # not this", "a b"),
            ("A=a#b", "a#b"),
            ("A=", ""),
            ("A=#", ""),
            ("A='$OUT # \\n' # not this", "$OUT # \\n"),
            ("A=\"a\\n\\\"$OUT\\\" \\$OUT \\d\"", "a\n\"side\" $OUT \\d"),
            ("A=${OUT:-x}-${NO:-y}-$$", "side-y-$"),
            ("A=first\nA=${A}2", "first2"),
        ] {
            let expected = vec![("A".to_owned(), expected.to_owned())];
            assert_eq!(all(line), Ok(expected), "{line}");
        }
        assert_eq!(all("# nothing\n\nNO\n"), Ok(Vec::new()));
        assert_eq!(all("OUT"), Ok(vec![("OUT".to_owned(), "side".to_owned())]));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, what) in [
            ("A=1\n=2", "2: : expected NAME=VALUE"),
            ("a b=1", "1: a b: expected"),
            ("A='x", "1: a ' that is not closed"),
            ("A=\"x\\", "1: a \" that is not closed"),
            ("A='x' y", "1: y after the quotes"),
            ("\nA=$NO", "2: the variable NO is not set"),
        ] {
            let error = all(text).unwrap_err();
            assert!(error.starts_with(what), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn quoted_values_come_back(value in "[^\n\r']{0,20}") {
            let single = all(&format!("A='{value}'")).unwrap();
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$");
            let double = all(&format!("A=\"{escaped}\"")).unwrap();
            prop_assert_eq!(&single, &double);
            prop_assert_eq!(&single[0].1, &value);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[A-c=#'\"$\\\\{} \n]{0,40}") {
            let _ = all(&text);
        }
    }
}
