//! Attacks: each module is named after one, acts as the attacking role, and expects the refusal or the right row.

#![forbid(unsafe_code)]

mod default_privileges;
mod foreign_mappings;
mod internal_functions;
mod others_messages;
mod planted_operators;
mod temporary_names;
mod unknown_settings;
