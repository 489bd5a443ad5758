//! What can be wrong with a mapping, said so that it can be put right.

use pgrx::PgSqlErrorCode;

use crate::error::Report;

/// One thing that is wrong with a mapping. All of a mapping's faults are found before any is raised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// SQLSTATE.
    pub code: PgSqlErrorCode,
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// What was seen or expected: sentences.
    pub detail: Option<String>,
    /// What to do about it: sentences, with the statement to run where there is one.
    pub hint: Option<String>,
}

impl Fault {
    /// A fault without DETAIL and HINT.
    pub fn new(code: PgSqlErrorCode, message: impl Into<String>) -> Fault {
        Fault {
            code,
            message: message.into(),
            detail: None,
            hint: None,
        }
    }

    /// A value that is not allowed there (22023).
    pub fn value(message: impl Into<String>) -> Fault {
        Fault::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message)
    }

    /// A name that cannot be one (42602).
    pub fn name(message: impl Into<String>) -> Fault {
        Fault::new(PgSqlErrorCode::ERRCODE_INVALID_NAME, message)
    }

    /// A column that does not exist (42703).
    pub fn column(message: impl Into<String>) -> Fault {
        Fault::new(PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN, message)
    }

    /// A key that no unique index enforces (42P10, as `ON CONFLICT` has it).
    pub fn key(message: impl Into<String>) -> Fault {
        Fault::new(PgSqlErrorCode::ERRCODE_INVALID_COLUMN_REFERENCE, message)
    }

    /// A relation that is of the wrong kind (42809).
    pub fn kind(message: impl Into<String>) -> Fault {
        Fault::new(PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE, message)
    }

    /// The same fault with a DETAIL.
    pub fn detail(mut self, detail: impl Into<String>) -> Fault {
        self.detail = Some(detail.into());
        self
    }

    /// The same fault with a HINT.
    pub fn hint(mut self, hint: impl Into<String>) -> Fault {
        self.hint = Some(hint.into());
        self
    }

    /// The same fault with a HINT, if there is one.
    pub fn maybe_hint(mut self, hint: Option<String>) -> Fault {
        self.hint = hint.or(self.hint);
        self
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

/// The faults of the mapping `name` as one error: a fault alone speaks for itself, several are
/// numbered in the DETAIL, and so are their HINTs.
pub fn summary(name: &str, faults: &[Fault]) -> Report {
    if let [fault] = faults {
        let Fault {
            code,
            message,
            detail,
            hint,
        } = fault.clone();
        return Report {
            code,
            message,
            detail,
            hint,
        };
    }
    let code = faults
        .first()
        .map_or(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, |f| f.code);
    let mut hints: Vec<String> = Vec::new();
    for (i, fault) in faults.iter().enumerate() {
        if let Some(hint) = &fault.hint {
            hints.push(format!("{}. {hint}", i + 1));
        }
    }
    let details: Vec<_> = faults
        .iter()
        .enumerate()
        .map(|(i, f)| format!("{}. {}", i + 1, f.sentence()))
        .collect();
    Report {
        code,
        message: format!("mapping \"{name}\" is not valid: {} faults", faults.len()),
        detail: Some(details.join("\n")),
        hint: (!hints.is_empty()).then(|| hints.join("\n")),
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
        assert_eq!(report.code, PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE);
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
        assert_eq!(report.code, PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN);
        assert_eq!(report.message, "mapping \"m\" is not valid: 2 faults");
        assert_eq!(
            report.detail.unwrap(),
            "1. Column \"a\" does not exist. It is not there.\n2. Guard is wrong."
        );
        assert_eq!(report.hint.unwrap(), "2. Use 'off'.");
    }
}
