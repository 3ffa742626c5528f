//! The API: what can be asked for, at which path, with what, and what is answered.
//!
//! One [`Route`] is one thing that can be asked for. The table of them is all that the server looks
//! requests up in (`call`), what the OpenAPI document is written from (`openapi`), and what clients
//! read their replies by. `ask` says how a client asks for each [`Request`].

mod ask;
mod call;
mod openapi;
mod schema;
mod table;

use std::sync::LazyLock;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;

use crate::control::api::{Reply, Request};
pub(super) use ask::{Asked, ask, watch};
use call::Call;
use call::find;
pub(super) use call::{Refusal, Wanted, read};
pub(super) use openapi::document;

/// What every path begins with: changes that a client would have to know of get another.
pub(super) const VERSION: &str = "/v1";

/// Type of a body that is lines of JSON.
pub(super) const LINES: &str = "application/x-ndjson";

type SchemaOf = fn(&mut SchemaGenerator) -> Schema;
type ReadReply = Box<dyn Fn(&[u8]) -> serde_json::Result<Reply> + Send + Sync>;

/// What is done for a request.
enum Action {
    /// It is read, and carried out under the engine's lock.
    CarryOut(fn(&Call<'_>) -> Result<Request, Refusal>),
    /// The document that describes all of this.
    Describe,
    /// A line for each event, until one side ends.
    Watch,
}

/// A parameter of the query.
struct Parameter {
    name: &'static str,
    about: &'static str,
    schema: SchemaOf,
    required: bool,
}

/// Something that can be asked for.
pub(super) struct Route {
    method: &'static str,
    /// Below [`VERSION`]; `{name}` stands for any segment.
    path: &'static str,
    /// Its name in the document, unique.
    id: &'static str,
    about: &'static str,
    query: Vec<Parameter>,
    body: Option<SchemaOf>,
    success: u16,
    result: Option<SchemaOf>,
    media_type: &'static str,
    action: Action,
    reply: ReadReply,
}

impl Route {
    fn new(
        method: &'static str,
        path: &'static str,
        id: &'static str,
        about: &'static str,
    ) -> Self {
        Self {
            method,
            path,
            id,
            about,
            query: Vec::new(),
            body: None,
            success: 204,
            result: None,
            media_type: "application/json",
            action: Action::Describe,
            reply: Box::new(|_| Ok(Reply::Done)),
        }
    }

    /// Something to look at.
    fn get(path: &'static str, id: &'static str, about: &'static str) -> Self {
        Self::new("GET", path, id, about)
    }

    /// Something to do.
    fn post(path: &'static str, id: &'static str, about: &'static str) -> Self {
        Self::new("POST", path, id, about)
    }

    /// Something to take away.
    fn delete(path: &'static str, id: &'static str, about: &'static str) -> Self {
        Self::new("DELETE", path, id, about)
    }

    /// It takes an optional parameter in its query.
    fn with<T: JsonSchema>(mut self, name: &'static str, about: &'static str) -> Self {
        self.query.push(Parameter {
            name,
            about,
            schema: |generator| generator.subschema_for::<T>(),
            required: false,
        });
        self
    }

    /// It needs the parameter that was added last.
    fn needed(mut self) -> Self {
        if let Some(parameter) = self.query.last_mut() {
            parameter.required = true;
        }
        self
    }

    /// It takes a value in its body.
    fn takes<T: JsonSchema>(mut self) -> Self {
        self.body = Some(|generator| generator.subschema_for::<T>());
        self
    }

    /// It answers a value, which clients read as a reply. Without, there is nothing to answer.
    fn answers<T>(mut self, status: u16, reply: fn(T) -> Reply) -> Self
    where
        T: JsonSchema + DeserializeOwned + 'static,
    {
        self.success = status;
        self.result = Some(|generator| generator.subschema_for::<T>());
        self.reply = Box::new(move |body| serde_json::from_slice(body).map(reply));
        self
    }

    /// It answers a line of JSON for each event.
    fn watches<T: JsonSchema>(mut self) -> Self {
        self.success = 200;
        self.result = Some(|generator| generator.subschema_for::<T>());
        self.media_type = LINES;
        self.action = Action::Watch;
        self
    }

    /// How it is read.
    fn reads(mut self, read: fn(&Call<'_>) -> Result<Request, Refusal>) -> Self {
        self.action = Action::CarryOut(read);
        self
    }
}

/// Everything that can be asked for.
fn routes() -> &'static [Route] {
    static ROUTES: LazyLock<Vec<Route>> = LazyLock::new(table::routes);
    &ROUTES
}

/// What a body says that has answered a request with success.
pub(super) fn reply_to(asked: &Asked, body: &[u8]) -> serde_json::Result<Reply> {
    let path = asked.target.split('?').next().unwrap_or_default();
    match find(asked.method, path) {
        Ok((route, _)) => (route.reply)(body),
        Err(refusal) => Err(serde::de::Error::custom(refusal.why)),
    }
}

#[cfg(test)]
mod tests;
