//! Variables in values, as compose writes them: `$NAME`, `${NAME}`, `${NAME:-default}`,
//! `${NAME:?message}`, and `$$` for a dollar.

/// Puts the values of variables in their places.
///
/// # Errors
/// What is wrong: an unknown form, a variable without a value, or one that must have one.
pub(super) fn interpolate(
    text: &str,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<String, String> {
    let mut parts = text.split('$');
    let mut out = parts.next().unwrap_or_default().to_owned();
    while let Some(part) = parts.next() {
        if part.is_empty() {
            // What follows `$$` is no variable.
            let after = parts.next().ok_or("a lone $ at the end; $$ is a dollar")?;
            out.push('$');
            out.push_str(after);
            continue;
        }
        let (expression, after) = split(part)?;
        out.push_str(&value(expression, environment)?);
        out.push_str(after);
    }
    Ok(out)
}

/// Splits what follows a dollar into a variable's expression and the rest.
fn split(part: &str) -> Result<(&str, &str), String> {
    if let Some(braced) = part.strip_prefix('{') {
        return braced
            .split_once('}')
            .ok_or_else(|| format!("${}: no closing brace", part.escape_default()));
    }
    let length = name_length(part);
    if length == 0 {
        let shown = part.escape_default();
        return Err(format!("${shown}: not a variable; $$ is a dollar"));
    }
    Ok(part.split_at(length))
}

/// How many bytes of a text are a variable's name.
fn name_length(text: &str) -> usize {
    let is_name = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return 0;
    }
    text.bytes().take_while(is_name).count()
}

fn value(expression: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let (name, rest) = expression.split_at(name_length(expression));
    let found = environment(name);
    let full = found.clone().filter(|value| !value.is_empty());
    let shown = name.escape_default();
    match (name, rest) {
        ("", _) => Err(format!("${{{}}}: no variable", expression.escape_default())),
        (_, "") => found.ok_or_else(|| format!("the variable {shown} is not set")),
        (_, rest) => match (rest.split_at_checked(1), rest.split_at_checked(2)) {
            (_, Some((":-", default))) => Ok(full.unwrap_or_else(|| default.to_owned())),
            (_, Some((":?", why))) => full.ok_or_else(|| format!("{shown}: {why}")),
            (Some(("-", default)), _) => Ok(found.unwrap_or_else(|| default.to_owned())),
            (Some(("?", why)), _) => found.ok_or_else(|| format!("{shown}: {why}")),
            _ => {
                let expression = expression.escape_default();
                Err(format!(
                    "${{{expression}}}: expected NAME, NAME:-DEFAULT or NAME:?MESSAGE"
                ))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn known(name: &str) -> Option<String> {
        match name {
            "A" => Some("1".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn every_form_has_its_value() {
        for (text, expected) in [
            ("plain", "plain"),
            ("$A$A", "11"),
            ("x${A}y", "x1y"),
            ("$A-b", "1-b"),
            ("${NO:-d}${EMPTY:-d}${EMPTY-d}${NO-d}", "ddd"),
            ("${A:?must}", "1"),
            ("$$A and $$$A", "$A and $1"),
            ("a$$", "a$"),
            ("$$", "$"),
        ] {
            assert_eq!(interpolate(text, &known).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_has_no_value_is_named() {
        for (text, what) in [
            ("$NO", "NO is not set"),
            ("${NO:?give one}", "NO: give one"),
            ("${EMPTY:?x}", "EMPTY: x"),
            ("${A", "no closing brace"),
            ("${}", "no variable"),
            ("cost: $ 5", "$$ is a dollar"),
            ("$", "$$ is a dollar"),
            ("$1", "not a variable"),
            ("${A+b}", "expected NAME"),
        ] {
            let error = interpolate(text, &known).unwrap_err();
            assert!(error.contains(what), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn doubled_dollars_are_the_text_again(text in "[a-z${}:?A-]{0,20}") {
            let doubled = text.replace('$', "$$");
            prop_assert_eq!(interpolate(&doubled, &known), Ok(text));
        }
    }
}
