//! Tests of `topology` in one program, since a program for each would be linked one by one: documents: read, refused, written and compared.
#![allow(clippy::unwrap_used)]

mod documents;
mod overload_policy;
mod proxy_policies;
mod server_config;
mod several_servers;
mod witness;
