//! What YAML becomes, and what is refused.

use proptest::prelude::*;

use super::*;

/// A tree in one line, to compare.
fn shown(node: &Node) -> String {
    let line = node.line;
    match &node.value {
        Value::Null => format!("{line}~"),
        Value::Text(text) => format!("{line}{text:?}"),
        Value::List(list) => {
            format!("[{}]", list.iter().map(shown).collect::<Vec<_>>().join(" "))
        }
        Value::Map(entries) => {
            let entry = |(name, node): &(String, Node)| format!("{name}:{}", shown(node));
            let entries: Vec<_> = entries.iter().map(entry).collect();
            format!("{{{}}}", entries.join(" "))
        }
    }
}

#[test]
fn values_know_their_lines_and_stay_as_they_were_written() {
    let text = "a: 022:80\nb:\n  - 'null'\n  - null\n  - {c: \"x\"}\n";
    let tree = parse(text).unwrap();
    assert_eq!(shown(&tree), "{a:1\"022:80\" b:[3\"null\" 4~ {c:5\"x\"}]}");
}

#[test]
fn anchors_and_merge_keys_are_resolved() {
    let text = "x: &x {a: 1, b: 2}\ny:\n  b: 3\n  <<: *x\nz: *x\n";
    let tree = parse(text).unwrap();
    assert_eq!(
        shown(&tree),
        "{x:{a:1\"1\" b:1\"2\"} y:{b:3\"3\" a:1\"1\"} z:{a:1\"1\" b:1\"2\"}}"
    );
}

#[test]
fn what_is_refused_is_refused_with_its_line() {
    let deep = format!("a: {}{}", "[".repeat(40), "]".repeat(40));
    let laughs = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned()
        + &(1..9)
            .map(|n| {
                format!(
                    "a{n}: &a{n} [{}]\n",
                    vec![
                        format!(
                            "*a{}",
                            if n == 1 {
                                String::new()
                            } else {
                                (n - 1).to_string()
                            }
                        );
                        10
                    ]
                    .join(", ")
                )
            })
            .collect::<String>();
    for (text, line, what) in [
        ("", 1, "empty"),
        ("a: 1\nb: 2\na: 3\n", 3, "a is there twice"),
        ("a: 1\nb: [\n", 3, "not YAML"),
        ("a: !x 1\n", 1, "tags"),
        ("a: 1\n---\nb: 1\n", 2, "second document"),
        ("a: 1\n[b]: 2\n", 2, "expected a name"),
        ("a:\n  <<: 3\n", 2, "<< takes"),
        (deep.as_str(), 1, "nested"),
        (laughs.as_str(), 5, "more than"),
    ] {
        let fault = parse(text).unwrap_err();
        assert!(fault.what.contains(what), "{text}: {fault}");
        assert_eq!(fault.line, line, "{text}: {fault}");
    }
}

#[test]
fn bytes_are_text_if_they_are_not_too_many() {
    let fault = |bytes: &[u8]| decode(bytes.to_vec()).unwrap_err();
    assert_eq!(decode(b"a: \xc3\xa9\n".to_vec()).unwrap(), "a: é\n");
    assert_eq!(fault(b"a: 1\nb: \xff\n"), Fault::new(2, "", "not UTF-8"));
    assert_eq!(fault(b"\xff\xfea\0"), Fault::new(1, "", "not UTF-8"));
    assert!(decode(vec![b'#'; MAX_BYTES]).is_ok());
    let cut_within_a_character = [&vec![b'#'; MAX_BYTES][..], b"\xc3"].concat();
    let too_large = fault(&cut_within_a_character);
    assert!(too_large.what.contains("1048576"), "{too_large}");
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[-a-c:&*<{}\\[\\]!'\"|> \n#,?%@`]{0,60}") {
        if let Err(fault) = parse(&text) {
            prop_assert!(fault.line <= text.lines().count() + 1, "{fault}");
        }
    }
}
