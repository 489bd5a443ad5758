//! Why a JSON value has no spelling as a type's text.

#![forbid(unsafe_code)]

use crate::json::StringFault;

/// The most dimensions of an array: `MAXDIM` of `utils/array.h`.
pub const MAX_DIMENSIONS: usize = 6;

/// Why a value has no spelling. The messages are the server's messages for the same fault. A value's text is kept as far as
/// an error can show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// A value of a form that the type does not take.
    Syntax {
        /// The type's name.
        of: &'static str,
        /// The value.
        text: String,
    },
    /// A value of a form that a date or time type does not take.
    DateTime {
        /// The type's name.
        of: &'static str,
        /// The value.
        text: String,
    },
    /// A whole number outside of the type's range.
    Range {
        /// The type's name.
        of: &'static str,
        /// The value.
        text: String,
    },
    /// Microseconds outside of the range of timestamps.
    TimestampRange(String),
    /// Months or days beyond 32 bits, microseconds beyond 64.
    IntervalRange,
    /// An object in place of an array.
    ArrayLiteral(String),
    /// A value that is not a string in place of a range.
    RangeLiteral {
        /// `range` or `multirange`.
        of: &'static str,
        /// The value.
        text: String,
    },
    /// An object that has none of the composite type's fields.
    RecordLiteral(String),
    /// A long text without the bracket that it must begin or end with.
    Literal {
        /// `array`, `record`, `range` or `multirange`.
        of: &'static str,
        /// The value.
        text: String,
        /// What it lacks.
        detail: &'static str,
    },
    /// A text of this many bytes for a type whose values are short.
    TooLong(usize),
    /// More than six dimensions.
    TooDeep,
    /// A value that is not a list of lexemes.
    Lexemes(String),
    /// A string that a PostgreSQL `text` cannot hold.
    String(StringFault),
}

impl Misfit {
    /// How the server classifies the fault.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Misfit::Syntax { .. }
            | Misfit::Literal { .. }
            | Misfit::TooLong(_)
            | Misfit::ArrayLiteral(_)
            | Misfit::RangeLiteral { .. }
            | Misfit::RecordLiteral(_) => "22P02",
            Misfit::DateTime { .. } => "22007",
            Misfit::Range { .. } => "22003",
            Misfit::TimestampRange(_) | Misfit::IntervalRange => "22008",
            Misfit::TooDeep => "54000",
            Misfit::Lexemes(_) => "42601",
            Misfit::String(_) => "22P05",
        }
    }

    /// The primary message.
    pub fn message(&self) -> String {
        match self {
            Misfit::Syntax { of, text } | Misfit::DateTime { of, text } => {
                format!("invalid input syntax for type {of}: \"{text}\"")
            }
            Misfit::Range { of, text } => {
                format!("value \"{text}\" is out of range for type {of}")
            }
            Misfit::TimestampRange(text) => format!("timestamp out of range: \"{text}\""),
            Misfit::IntervalRange => "interval out of range".to_owned(),
            Misfit::ArrayLiteral(text) => format!("malformed array literal: \"{text}\""),
            Misfit::TooLong(size) => format!("value of {size} bytes is too long for its type"),
            Misfit::RangeLiteral { of, text } | Misfit::Literal { of, text, .. } => {
                format!("malformed {of} literal: \"{text}\"")
            }
            Misfit::RecordLiteral(text) => format!("malformed record literal: \"{text}\""),
            Misfit::TooDeep => {
                let (found, most) = (MAX_DIMENSIONS + 1, MAX_DIMENSIONS);
                format!("number of array dimensions ({found}) exceeds the maximum allowed ({most})")
            }
            Misfit::Lexemes(text) => format!("syntax error in tsvector: \"{text}\""),
            Misfit::String(_) => "unsupported Unicode escape sequence".to_owned(),
        }
    }

    /// The DETAIL line.
    pub fn detail(&self) -> Option<&'static str> {
        match self {
            Misfit::String(StringFault::Nul) => Some("\\u0000 cannot be converted to text."),
            Misfit::String(StringFault::LoneSurrogate) => {
                Some("Unicode low surrogate must follow a high surrogate.")
            }
            Misfit::Literal { detail, .. } => Some(detail),
            Misfit::ArrayLiteral(_) => Some("A JSON object is not an array."),
            Misfit::RangeLiteral { .. } => Some("Only a JSON string can be a range."),
            Misfit::RecordLiteral(_) => {
                Some("No member of the JSON object is a field of the type.")
            }
            _ => None,
        }
    }
}
