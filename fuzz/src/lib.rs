//! pg_sequin's parsers, compiled from the extension's own files, and the targets that ask them with any input.

#![allow(dead_code, unused_imports, clippy::result_large_err)]

/// The extension's sources. A module finds the files of its own modules as it does in the extension: only modules whose
/// parent needs a server are listed one by one.
#[path = "../../src"]
mod extension {
    pub mod civil;
    pub mod envelope;
    pub mod error;
    pub mod image;
    pub mod json;
    pub mod message;
    pub mod spell;
    pub mod mapping {
        pub mod columns;
        pub mod source;
    }
}

// the targets and the modules name them as `crate::…`
use extension::{civil, envelope, error, image, json, mapping, message, spell};

pub mod seeds;
pub mod targets;
