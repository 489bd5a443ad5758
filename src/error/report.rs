//! The fields of an error, raised by the server or by this extension.

#![forbid(unsafe_code)]

use super::origin::Origin;
use super::sqlstate::{FOREIGN_KEY_VIOLATION, RESTRICT_VIOLATION, Sqlstate};

/// The limit of an error's texts, in bytes. The server's texts quote the wrong value, which may
/// be as large as the batch.
pub const KEPT: usize = 8192;

/// The beginning of a long text.
pub fn cut(text: &str) -> String {
    if text.len() <= KEPT {
        return text.to_owned();
    }
    let mut end = KEPT;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

/// An SQL error, very long texts cut.
///
/// Source: the fields of `ErrorData` in `utils/elog.h`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SqlError {
    /// The SQLSTATE.
    pub code: Sqlstate,
    /// Primary message: lower case, no full stop.
    pub message: String,
    /// DETAIL: sentences.
    pub detail: Option<String>,
    /// HINT: sentences, with the statement to run where there is one.
    pub hint: Option<String>,
    /// CONTEXT lines.
    pub context: Option<String>,
    /// Schema of the relation concerned.
    pub schema: Option<String>,
    /// Relation concerned.
    pub table: Option<String>,
    /// Column concerned.
    pub column: Option<String>,
    /// Data type concerned.
    pub datatype: Option<String>,
    /// Constraint concerned.
    pub constraint: Option<String>,
    /// How many rows of its batch relation the statement had read when it was raised, if it counts
    /// them: the last of them is the one at fault, unless all had been read.
    pub rows_read: Option<usize>,
    /// Whether no single row is at fault: a statement raised it before it read a row of its batch relation, or records lack
    /// what the mapping needs of each.
    pub no_row: bool,
    /// Who raised it.
    pub origin: Origin,
}

impl SqlError {
    /// An error of this extension.
    pub fn new(code: impl Into<Sqlstate>, message: impl Into<String>) -> SqlError {
        SqlError {
            code: code.into(),
            message: cut(&message.into()),
            ..SqlError::default()
        }
    }

    /// Whether it has this SQLSTATE.
    pub fn is(&self, code: Sqlstate) -> bool {
        self.code == code
    }

    /// Whether a foreign key does not allow the row, or does not let it go. Since PostgreSQL 18, a foreign key with
    /// `RESTRICT` says so by an SQLSTATE of its own, which triggers raise too, but without a constraint.
    pub fn violates_foreign_key(&self) -> bool {
        self.is(FOREIGN_KEY_VIOLATION) || self.is(RESTRICT_VIOLATION) && self.constraint.is_some()
    }

    /// The SQLSTATE's class, as the condition that names the class.
    pub fn class(&self) -> Sqlstate {
        self.code.class()
    }

    /// The SQLSTATE as five characters, to be shown.
    pub fn sqlstate(&self) -> String {
        self.code.to_string()
    }

    /// The same error, attributed to a mapping (by id) unless its origin is already known.
    pub fn of_mapping(mut self, mapping: i32) -> SqlError {
        if self.origin == Origin::Extension {
            self.origin = Origin::Mapping(mapping);
        }
        self
    }

    /// The same error with a DETAIL.
    pub fn with_detail(mut self, detail: impl Into<String>) -> SqlError {
        self.detail = Some(detail.into());
        self
    }

    /// The same error with a HINT.
    pub fn with_hint(mut self, hint: impl Into<String>) -> SqlError {
        self.hint = Some(hint.into());
        self
    }

    /// The same error, whose DETAIL says which function raised it, if it has none of its own.
    pub fn with_place(mut self) -> SqlError {
        let mut lines = self.context.as_deref().unwrap_or_default().lines();
        let place =
            lines.find(|line| line.contains(" function ") && !line.starts_with("SQL statement"));
        if let (None, Some(place)) = (&self.detail, place) {
            self.detail = Some(format!("It was raised in {place}."));
        }
        self
    }

    /// The same error with its position in the batch at the end of its DETAIL.
    pub fn at(mut self, position: &str) -> SqlError {
        self.detail = Some(match self.detail {
            Some(detail) => format!("{detail} At {position}."),
            None => format!("At {position}."),
        });
        self
    }
}

/// `Did you mean "a" or "b"?`, if there are candidates.
pub fn did_you_mean(nearest: &[String]) -> Option<String> {
    if nearest.is_empty() {
        return None;
    }
    let names: Vec<_> = nearest.iter().map(|n| format!("\"{n}\"")).collect();
    Some(format!("Did you mean {}?", list(&names, "or")))
}

/// `a`, `a and b`, `a, b and c`.
pub fn list<S: AsRef<str>>(items: &[S], conjunction: &str) -> String {
    match items {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [most @ .., last] => {
            let most: Vec<_> = most.iter().map(AsRef::as_ref).collect();
            format!("{} {conjunction} {}", most.join(", "), last.as_ref())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        let text = "ä".repeat(KEPT);
        let error = SqlError::new("22023", &*text);
        assert_eq!(error.message, format!("{}…", &text[..KEPT]));
        assert_eq!(cut("x"), "x");
    }

    #[test]
    fn the_position_ends_the_detail() {
        let error = SqlError::new("22023", "x").at("messages[0]");
        assert_eq!(error.detail.as_deref(), Some("At messages[0]."));
        let error = SqlError::new("22023", "x")
            .with_detail("It is y.")
            .at("messages[0]");
        assert_eq!(error.detail.as_deref(), Some("It is y. At messages[0]."));
    }
}
