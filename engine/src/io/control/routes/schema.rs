//! What JSON Schema says of values, beyond what is derived.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::transform::transform_subschemas;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::table::MAX_STOP;

/// `true` or `false`, in a query.
pub(super) struct Flag;

impl JsonSchema for Flag {
    fn schema_name() -> Cow<'static, str> {
        "Flag".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "boolean" })
    }
}

/// A time in seconds, in a query.
pub(super) struct Seconds;

impl JsonSchema for Seconds {
    fn schema_name() -> Cow<'static, str> {
        "Seconds".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 0, "maximum": MAX_STOP })
    }
}

/// Writes schemas as OpenAPI 3.1 wants them: JSON Schema 2020-12, with those that have names in one place.
pub(super) fn generator() -> SchemaGenerator {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = Cow::Borrowed("/components/schemas");
        settings.meta_schema = None;
        settings.transforms.push(Box::new(be_exact));
    });
    settings.into_generator()
}

/// Says in words that every reader of JSON Schema knows what formats of Rust's types mean.
fn be_exact(schema: &mut Schema) {
    transform_subschemas(&mut be_exact, schema);
    let format = schema
        .get("format")
        .and_then(Value::as_str)
        .map(str::to_owned);
    let (low, high) = match format.as_deref() {
        Some("ip") => {
            schema.remove("format");
            let forms = json!([{ "format": "ipv4" }, { "format": "ipv6" }]);
            schema.insert("anyOf".to_owned(), forms);
            return;
        }
        Some("int32") => (json!(i32::MIN), json!(i32::MAX)),
        Some("uint32") => (json!(0), json!(u32::MAX)),
        Some("uint64" | "uint") => (json!(0), json!(u64::MAX)),
        _ => return,
    };
    schema.insert("minimum".to_owned(), low);
    schema.insert("maximum".to_owned(), high);
}
