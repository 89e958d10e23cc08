//! What an operator touches: command line, CSV, API, data folder, client configurations.

mod api;
mod cli;
mod clients;
mod csv;
mod drill;
mod enterprise;
mod grammar;
mod import;
mod layout;
mod lines;
mod openapi;
mod order;
mod program;
mod temp;
