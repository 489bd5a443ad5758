//! pg_sequin's pure modules, as the extension compiles them, and what is asked of them with any input.

#![allow(dead_code, unused_imports)]

/// The extension's sources; files of modules are found as they are there.
#[path = "../../src"]
mod extension {
    pub mod envelope;
    pub mod error;
    pub mod json;
    pub mod message;
    pub mod spell;
    pub mod mapping {
        pub mod columns;
        pub mod source;
    }
}

use extension::{envelope, error, json, mapping, message, spell};

pub mod seeds;
pub mod targets;
