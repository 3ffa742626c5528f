//! The document that describes the API, made from the table of routes.

use schemars::SchemaGenerator;
use serde_json::{Map, Value, json};

use super::call::variable;
use super::schema::generator;
use super::{Parameter, Route, VERSION, routes};
use crate::control::Invalid;

/// The OpenAPI document.
pub(in super::super) fn document() -> Value {
    let mut generator = generator();
    let problem = generator.subschema_for::<Invalid>();
    let mut paths = Map::new();
    for route in routes() {
        let path = paths
            .entry(format!("{VERSION}{}", route.path))
            .or_insert_with(|| json!({}));
        path[route.method.to_lowercase()] = operation(route, &mut generator);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Pontoon",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Containers' networks without root. Served on the unix socket api.sock in \
                            the engine's runtime directory.",
        },
        "servers": [{ "url": "http://pontoon" }],
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "responses": {
                "Problem": {
                    "description": "Which field is wrong, and why",
                    "content": { "application/json": { "schema": problem } },
                },
            },
        },
    })
}

fn operation(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let segments = route.path.split('/').filter_map(variable);
    let mut parameters: Vec<_> = segments.map(describe_segment).collect();
    let query = route
        .query
        .iter()
        .map(|parameter| describe(parameter, generator));
    parameters.extend(query);
    let mut operation = json!({
        "operationId": route.id,
        "summary": route.about,
        "parameters": parameters,
        "responses": responses(route, generator),
    });
    if let Some(body) = route.body {
        operation["requestBody"] = json!({
            "required": true,
            "content": { "application/json": { "schema": body(generator) } },
        });
    }
    operation
}

fn describe_segment(name: &str) -> Value {
    json!({
        "name": name,
        "in": "path",
        "required": true,
        "schema": { "type": "string", "minLength": 1 },
    })
}

fn describe(parameter: &Parameter, generator: &mut SchemaGenerator) -> Value {
    json!({
        "name": parameter.name,
        "in": "query",
        "required": parameter.required,
        "description": parameter.about,
        "schema": (parameter.schema)(generator),
    })
}

fn responses(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let mut success = json!({ "description": "It is done" });
    if let Some(result) = route.result {
        success["content"] = json!({ route.media_type: { "schema": result(generator) } });
    }
    let problem = json!({ "$ref": "#/components/responses/Problem" });
    let mut responses = Map::new();
    responses.insert(route.success.to_string(), success);
    for status in ["4XX", "5XX"] {
        responses.insert(status.to_owned(), problem.clone());
    }
    Value::Object(responses)
}
