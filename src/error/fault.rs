//! The faults of a mapping, worded so that the user can correct them.

#![forbid(unsafe_code)]

use std::ops::Deref;

use super::report::SqlError;
use super::sqlstate::{self, Sqlstate};

/// One fault of a mapping. All of a mapping's faults are found before any is raised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault(SqlError);

impl Fault {
    /// A fault without DETAIL and HINT.
    pub fn new(code: Sqlstate, message: impl Into<String>) -> Fault {
        Fault(SqlError::new(code, message))
    }

    /// A value that is not allowed in its place.
    pub fn value(message: impl Into<String>) -> Fault {
        Fault::new(sqlstate::INVALID_PARAMETER_VALUE, message)
    }

    /// An invalid name.
    pub fn name(message: impl Into<String>) -> Fault {
        Fault::new(sqlstate::INVALID_NAME, message)
    }

    /// A column that does not exist.
    pub fn column(message: impl Into<String>) -> Fault {
        Fault::new(sqlstate::UNDEFINED_COLUMN, message)
    }

    /// A key that no unique index enforces: the SQLSTATE is `ON CONFLICT`'s.
    pub fn key(message: impl Into<String>) -> Fault {
        Fault::new(sqlstate::INVALID_COLUMN_REFERENCE, message)
    }

    /// A relation that is of the wrong kind.
    pub fn kind(message: impl Into<String>) -> Fault {
        Fault::new(sqlstate::WRONG_OBJECT_TYPE, message)
    }

    /// The same fault with a DETAIL.
    pub fn detail(self, detail: impl Into<String>) -> Fault {
        Fault(self.0.with_detail(detail))
    }

    /// The same fault with a HINT.
    pub fn hint(self, hint: impl Into<String>) -> Fault {
        Fault(self.0.with_hint(hint))
    }

    /// The same fault with a HINT, if there is one.
    pub fn maybe_hint(self, hint: Option<String>) -> Fault {
        match hint {
            Some(hint) => self.hint(hint),
            None => self,
        }
    }

    fn sentence(&self) -> String {
        let mut sentence = upper_first(&self.message);
        sentence.push('.');
        if let Some(detail) = &self.detail {
            sentence.push(' ');
            sentence.push_str(detail);
        }
        sentence
    }
}

impl Deref for Fault {
    type Target = SqlError;

    fn deref(&self) -> &SqlError {
        &self.0
    }
}

impl From<SqlError> for Fault {
    fn from(error: SqlError) -> Fault {
        Fault(error)
    }
}

/// A sentence's beginning, unless the first word is a name.
fn upper_first(text: &str) -> String {
    let word = text.split(' ').next().unwrap_or_default();
    if !word.chars().all(char::is_alphabetic) {
        return text.to_owned();
    }
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}

/// The faults of the mapping `name` as one error: a single fault speaks for itself, several are
/// numbered in the DETAIL, and so are their HINTs.
pub fn summary(name: &str, faults: &[Fault]) -> SqlError {
    if let [Fault(error)] = faults {
        return error.clone();
    }
    let code = faults.first().map_or(sqlstate::INTERNAL_ERROR, |f| f.code);
    let details: Vec<_> = faults
        .iter()
        .enumerate()
        .map(|(i, f)| format!("{}. {}", i + 1, f.sentence()))
        .collect();
    let hints: Vec<_> = faults
        .iter()
        .enumerate()
        .filter_map(|(i, f)| Some(format!("{}. {}", i + 1, f.hint.as_ref()?)))
        .collect();
    let message = format!("mapping \"{name}\" is not valid: {} faults", faults.len());
    let error = SqlError::new(code, message).with_detail(details.join("\n"));
    if hints.is_empty() {
        return error;
    }
    error.with_hint(hints.join("\n"))
}

/// The faults that keep the mapping `name` from writing, as one error that names the mapping.
pub fn broken(name: &str, faults: &[Fault]) -> SqlError {
    let error = summary(name, faults);
    let what = match faults {
        [_] => error.message.clone(),
        several => format!("{} faults", several.len()),
    };
    SqlError {
        message: format!("mapping \"{name}\" is broken: {what}"),
        ..error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_fault_speaks_for_itself() {
        let fault = Fault::value("mode \"x\" does not exist").hint("Use 'upsert'.");
        let report = summary("m", std::slice::from_ref(&fault));
        assert_eq!(report.message, fault.message);
        assert_eq!(report.hint, fault.hint);
        assert_eq!(report.code, sqlstate::INVALID_PARAMETER_VALUE);
    }

    #[test]
    fn names_are_not_capitalised() {
        assert_eq!(upper_first("on_delete 'soft' is"), "on_delete 'soft' is");
        assert_eq!(upper_first("guard is"), "Guard is");
        assert_eq!(upper_first(""), "");
    }

    #[test]
    fn several_faults_are_numbered() {
        let faults = [
            Fault::column("column \"a\" does not exist").detail("It is not there."),
            Fault::value("guard is wrong").hint("Use 'off'."),
        ];
        let report = summary("m", &faults);
        assert_eq!(report.code, sqlstate::UNDEFINED_COLUMN);
        assert_eq!(report.message, "mapping \"m\" is not valid: 2 faults");
        assert_eq!(
            report.detail.unwrap(),
            "1. Column \"a\" does not exist. It is not there.\n2. Guard is wrong."
        );
        assert_eq!(report.hint.unwrap(), "2. Use 'off'.");
        let report = broken("m", &faults);
        assert_eq!(report.message, "mapping \"m\" is broken: 2 faults");
        assert_eq!(report.hint.unwrap(), "2. Use 'off'.");
    }

    #[test]
    fn a_broken_mapping_is_named() {
        let fault = Fault::column("column \"a\" does not exist").hint("Run: SELECT 1;");
        let report = broken("m", &[fault]);
        assert_eq!(
            report.message,
            "mapping \"m\" is broken: column \"a\" does not exist"
        );
        assert_eq!(report.hint.unwrap(), "Run: SELECT 1;");
        assert_eq!(report.code, sqlstate::UNDEFINED_COLUMN);
    }
}
