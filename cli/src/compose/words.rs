//! A command in one text, as words: white space separates, quotes and backslashes keep together, as in
//! a shell. There is no shell: nothing is expanded.

/// Splits a command.
///
/// # Errors
/// What is wrong: a quote that is not closed, or a backslash at the end.
pub(super) fn split(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '\'' => single(&mut rest, word.get_or_insert_default())?,
            '"' => double(&mut rest, word.get_or_insert_default())?,
            '\\' => word.get_or_insert_default().push(escaped(&mut rest)?),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

fn escaped(rest: &mut impl Iterator<Item = char>) -> Result<char, String> {
    rest.next()
        .ok_or_else(|| "a backslash at the end".to_owned())
}

fn single(rest: &mut impl Iterator<Item = char>, word: &mut String) -> Result<(), String> {
    for c in rest {
        match c {
            '\'' => return Ok(()),
            c => word.push(c),
        }
    }
    Err("a ' that is not closed".to_owned())
}

/// Between double quotes a backslash keeps its meaning before a quote and another backslash only.
fn double(rest: &mut impl Iterator<Item = char>, word: &mut String) -> Result<(), String> {
    while let Some(c) = rest.next() {
        match c {
            '"' => return Ok(()),
            '\\' => match escaped(rest)? {
                c @ ('"' | '\\' | '$' | '`') => word.push(c),
                c => word.extend(['\\', c]),
            },
            c => word.push(c),
        }
    }
    Err("a \" that is not closed".to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quotes_keep_words_together() {
        let words = split(r#"sh -c 'echo "a b"' "it's \"x\" \n" a\ b '' x"y"z "#).unwrap();
        let expected = [
            "sh",
            "-c",
            "echo \"a b\"",
            "it's \"x\" \\n",
            "a b",
            "",
            "xyz",
        ];
        assert_eq!(words, expected);
    }

    #[test]
    fn what_is_not_closed_is_refused() {
        for text in ["a 'b", "a \"b", "a \"b\\\"", "a\\"] {
            assert!(split(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn quoted_words_come_back(words in prop::collection::vec("[^']{0,8}", 0..5)) {
            let quoted: Vec<_> = words.iter().map(|word| format!("'{word}'")).collect();
            prop_assert_eq!(split(&quoted.join(" ")), Ok(words));
        }
    }
}
