//! The kinds of JSON values, and of faults in JSON text.

#![forbid(unsafe_code)]

use std::fmt;

/// The kinds of JSON values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// A number of any size
    Number,
    /// A string
    String,
    /// An array
    Array,
    /// An object
    Object,
}

/// Why a string of valid JSON cannot be stored as PostgreSQL's `text`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StringFault {
    /// The string holds `\u0000`.
    Nul,
    /// The string holds one half of a UTF-16 surrogate pair.
    LoneSurrogate,
}

impl fmt::Display for StringFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            StringFault::Nul => "\\u0000 cannot be converted to text",
            StringFault::LoneSurrogate => "a Unicode surrogate stands without its other half",
        })
    }
}

/// Where and why a text is not JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonFault {
    /// Offset of the first byte that is not JSON, from 0; the length of the text if it ends too soon.
    pub byte: usize,
    /// The expected text.
    pub expected: &'static str,
    /// The text found.
    pub found: String,
}

impl fmt::Display for JsonFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let JsonFault {
            byte,
            expected,
            found,
        } = self;
        write!(out, "expected {expected} at byte {byte}, found {found}")
    }
}
