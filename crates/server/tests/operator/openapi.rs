//! The OpenAPI document and the route table say the same.

use pairline_server::api::openapi::{document, path_members};
use pairline_server::api::params::Params;
use pairline_server::api::routes::{Access, Action, Kind, ROUTES};
use serde_json::{Value, json};
use std::collections::BTreeSet;

#[test]
fn document_and_table_name_the_same_routes() {
    let document = document();
    let paths = document["paths"].as_object().expect("paths");
    let written: BTreeSet<(String, String)> = paths
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().expect("methods").keys().map(|verb| (path.clone(), verb.to_uppercase()))
        })
        .collect();
    let served: BTreeSet<(String, String)> =
        ROUTES.iter().map(|route| (route.path.to_owned(), route.verb.as_str().to_owned())).collect();
    assert_eq!(written, served);
    assert_eq!(served.len(), ROUTES.len(), "a route stands twice in the table");
}

#[test]
fn operations_have_distinct_ids_and_all_their_members() {
    let document = document();
    assert_eq!(document["components"]["securitySchemes"]["digest"]["scheme"], "digest");
    let mut ids = BTreeSet::new();
    for route in ROUTES {
        let operation = &document["paths"][route.path][route.verb.as_str().to_ascii_lowercase()];
        assert!(ids.insert(operation["operationId"].as_str().expect("an id").to_owned()), "{}", route.path);
        let names: Vec<&str> =
            operation["parameters"].as_array().expect("parameters").iter().filter_map(|p| p["name"].as_str()).collect();
        let mut wanted = path_members(route.path);
        wanted.extend(route.query.iter().map(|field| field.name));
        assert_eq!(names, wanted, "{}", route.path);
        for field in route.body {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            assert!(schema["properties"][field.name].is_object(), "{} lacks {}", route.path, field.name);
        }
        let open = operation["security"].as_array().expect("security").is_empty();
        assert_eq!(open, route.access == Access::Open, "{}", route.path);
        let digest = operation["security"].as_array().expect("security").iter().any(|way| way["digest"].is_array());
        assert_eq!(digest, route.access == Access::Owner, "{}", route.path);
    }
}

/// Every documented member, filled with a value of its documented type, is understood: no member is only on paper.
#[test]
fn documented_members_build_commands() {
    for route in ROUTES {
        let Action::Command(make) = route.action else { continue };
        let mut params = Params::default();
        for name in path_members(route.path) {
            params.path.insert(name.to_owned(), "east".to_owned());
        }
        for field in route.query {
            let value = if field.kind == Kind::Number { "7" } else { "alice" };
            params.query.insert(field.name.to_owned(), value.to_owned());
        }
        for field in route.body {
            params.body.insert(field.name.to_owned(), sample(field.kind));
        }
        let full = make(&params);
        assert!(full.is_ok(), "{} {}: {full:?}", route.verb.as_str(), route.path);
        let full = serde_json::to_value(full.expect("checked")).expect("a command").to_string();
        for field in route.body {
            let mut less = params.clone();
            less.body.remove(field.name);
            let built = make(&less);
            assert_eq!(built.is_err(), field.required, "{} {} without {}", route.verb.as_str(), route.path, field.name);
            if let Ok(command) = built {
                assert_ne!(
                    serde_json::to_value(command).expect("a command").to_string(),
                    full,
                    "{} is ignored",
                    field.name
                );
            }
        }
    }
}

fn sample(kind: Kind) -> Value {
    match kind {
        Kind::Text => json!("text"),
        Kind::Number => json!(7),
        Kind::Flag => json!(true),
        Kind::Texts => json!(["a", "b"]),
        Kind::Operation => json!(["session", 7]),
        Kind::Rows => json!([{ "user": "alice", "password": "pw" }]),
    }
}
