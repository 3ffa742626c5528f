//! `--format`: `json`, or text with `{{.Field}}` and `{{json .Field}}` in it, in columns behind `table`.
//! This much of Go's templates, and no more.

use serde::Serialize;
use serde_json::Value;

use crate::client::Failure;

/// A template that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    pieces: Vec<Piece>,
    is_table: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// A field as text.
    Field(Path),
    /// A field, or the whole, as JSON.
    Json(Path),
}

/// Names of fields inside of each other; the whole when there are none.
type Path = Vec<String>;

impl Format {
    /// Reads a template.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let text = text.replace("\\t", "\t").replace("\\n", "\n");
        let (text, is_table) = match text.strip_prefix("table ") {
            _ if text == "json" => ("{{json .}}", false),
            Some(rest) => (rest, true),
            None => (text.as_str(), false),
        };
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once("{{") {
            let (action, after) = behind.split_once("}}").ok_or_else(|| wrong(behind))?;
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(parse_action(action.trim())?);
            rest = after;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        pieces.retain(|piece| *piece != Piece::Text(String::new()));
        Ok(Self { pieces, is_table })
    }

    /// The parts of a table between its tabs; `None` when it is no table.
    pub(super) fn columns(&self) -> Option<Vec<Self>> {
        if !self.is_table {
            return None;
        }
        let mut columns = vec![Vec::new()];
        for piece in &self.pieces {
            let Piece::Text(text) = piece else {
                columns.iter_mut().last()?.push(piece.clone());
                continue;
            };
            for (nth, part) in text.split('\t').enumerate() {
                if nth > 0 {
                    columns.push(Vec::new());
                }
                if !part.is_empty() {
                    columns
                        .iter_mut()
                        .last()?
                        .push(Piece::Text(part.to_owned()));
                }
            }
        }
        let column = |pieces| Self {
            pieces,
            is_table: false,
        };
        Some(columns.into_iter().map(column).collect())
    }

    /// The name of the first field in it.
    pub(super) fn title(&self) -> String {
        let path = self.pieces.iter().find_map(|piece| match piece {
            Piece::Text(_) => None,
            Piece::Field(path) | Piece::Json(path) => path.last().cloned(),
        });
        path.unwrap_or_default()
    }

    /// The text with what `value` has in its fields.
    pub(crate) fn fill(&self, value: &impl Serialize) -> Result<String, Failure> {
        let fields = serde_json::to_value(value).map_err(std::io::Error::from)?;
        let parts = self.pieces.iter().map(|piece| match piece {
            Piece::Text(text) => Ok(text.clone()),
            // As it is, for the order of its fields.
            Piece::Json(path) if path.is_empty() => serde_json::to_string(value)
                .map_err(|error| Failure::from(std::io::Error::from(error))),
            Piece::Json(path) => Ok(find(&fields, path)?.to_string()),
            Piece::Field(path) => plain(find(&fields, path)?, path),
        });
        parts.collect()
    }
}

fn parse_action(text: &str) -> Result<Piece, Failure> {
    let (kind, path): (fn(Path) -> Piece, _) = match text.strip_prefix("json ") {
        Some(path) => (Piece::Json, path.trim()),
        None => (Piece::Field, text),
    };
    let names = path.strip_prefix('.').ok_or_else(|| wrong(text))?;
    let names: Path = match names {
        "" => Vec::new(),
        names => names.split('.').map(str::to_owned).collect(),
    };
    let is_name =
        |name: &String| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric());
    if names.iter().all(is_name) {
        Ok(kind(names))
    } else {
        Err(wrong(text))
    }
}

fn find<'a>(value: &'a Value, path: &[String]) -> Result<&'a Value, Failure> {
    path.iter().try_fold(value, |value, name| {
        value.get(name).ok_or_else(|| {
            let why = format!("there is no field {}", name.escape_default());
            Failure::own("--format", why)
        })
    })
}

fn plain(value: &Value, path: &[String]) -> Result<String, Failure> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(_) | Value::Number(_) | Value::Null => Ok(value.to_string()),
        Value::Array(_) | Value::Object(_) => {
            let path = path.join(".");
            let why = format!(".{path} has parts: write {{{{json .{path}}}}}");
            Err(Failure::own("--format", why))
        }
    }
}

fn wrong(action: &str) -> Failure {
    let shown: String = action
        .chars()
        .take(64)
        .flat_map(char::escape_default)
        .collect();
    let why = format!("{{{{{shown}: only {{{{.Field}}}} and {{{{json .Field}}}} are understood");
    Failure::own("--format", why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Shown {
        #[serde(rename = "Name")]
        name: &'static str,
        #[serde(rename = "Inner")]
        inner: Inner,
    }

    #[derive(Serialize)]
    struct Inner {
        #[serde(rename = "Flag")]
        flag: bool,
    }

    const SHOWN: Shown = Shown {
        name: "n1",
        inner: Inner { flag: true },
    };

    fn filled(text: &str) -> String {
        Format::parse(text).unwrap().fill(&SHOWN).unwrap()
    }

    #[test]
    fn fields_are_filled_in() {
        assert_eq!(filled("{{.Name}}:{{ .Inner.Flag }}\\t."), "n1:true\t.");
        assert_eq!(filled("{{json .Inner}}"), r#"{"Flag":true}"#);
        assert_eq!(filled("{{json .Name}}"), r#""n1""#);
        let whole = r#"{"Name":"n1","Inner":{"Flag":true}}"#;
        assert_eq!([filled("json"), filled("{{json .}}")], [whole, whole]);
        assert_eq!(filled("text"), "text");
    }

    #[test]
    fn a_table_has_columns() {
        assert_eq!(Format::parse("{{.Name}}\t").unwrap().columns(), None);
        let columns = Format::parse("table {{.Name}}!\\t{{.Inner.Flag}}")
            .unwrap()
            .columns()
            .unwrap();
        let cells: Vec<_> = columns
            .iter()
            .map(|c| (c.title(), c.fill(&SHOWN).unwrap()))
            .collect();
        assert_eq!(
            cells,
            [
                ("Name".to_owned(), "n1!".to_owned()),
                ("Flag".to_owned(), "true".to_owned())
            ]
        );
    }

    #[test]
    fn more_of_gos_templates_is_refused() {
        for text in [
            "{{range .Inner}}x{{end}}",
            "{{.Name",
            "{{index . 0}}",
            "{{..}}",
            "{{}}",
        ] {
            let error = Format::parse(text).unwrap_err().to_string();
            assert!(error.contains("only {{.Field}}"), "{error}");
        }
        for (text, why) in [
            ("{{.Nosuch}}", "no field Nosuch"),
            ("{{.Inner}}", "write {{json .Inner}}"),
        ] {
            let error = Format::parse(text).unwrap().fill(&SHOWN).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}
