//! The OpenAPI document, made from the route table so that it cannot drift from what is served.
//!
//! Owns the document's shape. Does not own the routes.

use super::routes::{Access, Field, Kind, ROUTES, Route};
use serde_json::{Map, Value, json};

/// The OpenAPI 3.1 document of this build.
pub fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let entry = paths.entry(route.path.to_owned()).or_insert_with(|| json!({}));
        if let Value::Object(methods) = entry {
            methods.insert(route.verb.as_str().to_ascii_lowercase(), operation(route));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Pairline admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Users, pools and procedures of a Pairline deployment. Errors are problem details (RFC 9457) with a remedy.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer", "description": "The administrator's token, or a user's own." },
                "digest": {
                    "type": "http", "scheme": "digest",
                    "description": "A user's own name and password (RFC 7616, SHA-256, qop=auth), the same as for SIP.",
                },
            },
            "schemas": { "Problem": problem_schema(), "Reply": reply_schema() },
        },
    })
}

fn operation(route: &Route) -> Value {
    let mut operation = json!({
        "summary": route.summary,
        "operationId": operation_id(route),
        "parameters": parameters(route),
        "responses": {
            "200": success(route),
            "default": {
                "description": "Refused or failed",
                "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
            },
        },
        "security": security(route.access),
    });
    if !route.body.is_empty() {
        operation["requestBody"] = json!({
            "required": route.body.iter().any(|field| field.required),
            "content": { "application/json": { "schema": body_schema(route.body) } },
        });
    }
    operation
}

fn operation_id(route: &Route) -> String {
    let words: Vec<&str> = route.path.split(['/', '{', '}', '.']).filter(|word| !word.is_empty()).collect();
    format!("{}-{}", route.verb.as_str().to_ascii_lowercase(), words.join("-"))
}

fn security(access: Access) -> Value {
    match access {
        Access::Open => json!([]),
        Access::Local => json!([{}, { "bearer": [] }]),
        Access::Administrator => json!([{ "bearer": [] }]),
        Access::Owner => json!([{ "bearer": [] }, { "digest": [] }]),
    }
}

fn success(route: &Route) -> Value {
    match route.path {
        "/metrics" => {
            json!({ "description": "Metrics", "content": { "text/plain": { "schema": { "type": "string" } } } })
        }
        "/health" | "/openapi.json" => {
            json!({ "description": "Fine", "content": { "application/json": { "schema": { "type": "object" } } } })
        }
        _ => json!({
            "description": "Done",
            "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Reply" } } },
        }),
    }
}

/// Names of the `{members}` of a path, in order.
pub fn path_members(path: &str) -> Vec<&str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect()
}

fn parameters(route: &Route) -> Value {
    let in_path = path_members(route.path)
        .into_iter()
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }));
    let in_query = route.query.iter().map(|field| {
        json!({
            "name": field.name, "in": "query", "required": field.required,
            "description": field.about, "schema": kind_schema(field.kind),
        })
    });
    Value::Array(in_path.chain(in_query).collect())
}

fn body_schema(fields: &[Field]) -> Value {
    let mut properties = Map::new();
    for field in fields {
        let mut schema = kind_schema(field.kind);
        schema["description"] = json!(field.about);
        properties.insert(field.name.to_owned(), schema);
    }
    let required: Vec<&str> = fields.iter().filter(|field| field.required).map(|field| field.name).collect();
    json!({ "type": "object", "properties": properties, "required": required })
}

fn kind_schema(kind: Kind) -> Value {
    match kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Number => json!({ "type": "integer", "minimum": 0 }),
        Kind::Flag => json!({ "type": "boolean", "default": false }),
        Kind::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        Kind::Operation => json!({
            "type": "array", "prefixItems": [{ "type": "string" }, { "type": "integer", "minimum": 0 }],
            "minItems": 2, "maxItems": 2,
        }),
        Kind::Rows => json!({
            "type": "array", "maxItems": super::build::IMPORT_ROWS,
            "items": {
                "type": "object",
                "properties": {
                    "user": { "type": "string" }, "password": { "type": "string" },
                    "display_name": { "type": ["string", "null"] }, "pool": { "type": ["string", "null"] },
                    "contacts": { "type": "array", "items": { "type": "string" } },
                },
                "required": ["user", "password"],
            },
        }),
    }
}

fn problem_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "type": { "type": "string", "description": "urn:pairline:problem: and a stable kind" },
            "status": { "type": "integer" },
            "title": { "type": "string" },
            "detail": { "type": "string" },
            "remedy": { "type": "string", "description": "what to do" },
        },
        "required": ["type", "status", "title", "detail", "remedy"],
    })
}

fn reply_schema() -> Value {
    json!({
        "type": "object",
        "properties": { "reply": { "type": "string", "description": "which kind of answer; its members stand beside it" } },
        "required": ["reply"],
    })
}
