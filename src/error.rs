//! What pg_sequin itself complains of: one enum, and one match that says it.
//!
//! Messages follow PostgreSQL's style: lower case and no full stop; DETAIL and HINT are sentences.
//! SQLSTATE, DETAIL and HINT are part of the interface.

#![forbid(unsafe_code)]

pub mod fault;
pub mod nearest;
pub mod quote;
pub mod report;
pub mod sqlstate;

pub use report::{SqlError, did_you_mean, list};

use crate::json::JsonFault;
use fault::{Fault, summary};

/// An error that pg_sequin raises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The batch is not JSON.
    BadJson {
        /// Place in the batch, in bytes from 0.
        byte: usize,
        /// What could stand there: `a value`, `"," or "]"`.
        expected: String,
        /// What does: `the end of the batch`, `"x"`.
        found: String,
    },
    /// The batch is null.
    NullBatch,
    /// A message is routed to a mapping that is not enabled.
    MappingPaused {
        /// Name of the mapping.
        name: String,
    },
    /// `sequin.batch()` was called by somebody else than `sequin_apply`.
    OutsideApply,
    /// `sequin.batch()` was called where a set cannot be returned.
    NotInFrom,
    /// `sequin.row_key` was called with the keyword VARIADIC.
    Variadic,
    /// `sequin.row_key` was called by something that does not say of which types the arguments are.
    UnknownArgumentType {
        /// Number of the argument, from 1.
        number: usize,
    },
    /// A statement of the extension's own failed.
    OwnStatement {
        /// What could not be done: `read sequin.dead_letter`.
        what: String,
        /// Why not.
        why: String,
    },
    /// No mapping has this name.
    MappingNotFound {
        /// The name asked for.
        name: String,
        /// Names that look like it, best first.
        nearest: Vec<String>,
    },
    /// No dead letter that the caller may touch has this number.
    LetterNotFound {
        /// The number asked for.
        id: i64,
    },
    /// A batch was given where a mapping's name is asked for.
    BatchNotMapping,
    /// A batch that is to be explained goes to a mapping of another role.
    NotYoursToExplain {
        /// Place of the message in the batch.
        position: usize,
    },
    /// There is no relation of this OID.
    NoRelation {
        /// The OID.
        oid: u32,
    },
    /// A relation has no such column.
    NoColumn {
        /// The name asked for.
        name: String,
        /// The relation.
        relation: String,
        /// Names that look like it, best first.
        nearest: Vec<String>,
    },
    /// A list of columns has none.
    NoColumns,
    /// Rows cannot be spread over so few buckets.
    NoBuckets {
        /// How many.
        count: i32,
    },
    /// The database does not store text as UTF-8.
    NotUtf8 {
        /// Its encoding.
        encoding: String,
    },
    /// The mapping says something that cannot be.
    InvalidMapping {
        /// Name of the mapping.
        name: String,
        /// Everything that is wrong with it; at least one.
        faults: Vec<Fault>,
    },
    /// Somebody who may not gives a mapping to another role.
    OwnerNotYours {
        /// Name of the mapping.
        name: String,
    },
    /// A resync that was not begun is to be finished.
    NoResync {
        /// Name of the mapping.
        name: String,
    },
    /// A resync cannot tell the mapping's rows from those of others.
    SharedDestination {
        /// Name of the mapping.
        name: String,
    },
    /// The caller's transaction does not see what others have applied.
    Isolation,
    /// The caller's transaction may not write.
    ReadOnly {
        /// Because the server is a standby.
        standby: bool,
    },
    /// The mappings changed each time that the call began again.
    MappingsChange,
    /// An argument that must have a value is null.
    NullArgument {
        /// The argument.
        argument: &'static str,
    },
}

impl Error {
    /// What the error says.
    pub fn report(&self) -> SqlError {
        match self {
            Error::BadJson {
                byte,
                expected,
                found,
            } => SqlError::new(
                sqlstate::INVALID_TEXT_REPRESENTATION,
                "invalid input syntax for type json",
            )
            .with_detail(format!(
                "Expected {expected}, but found {found} at byte {byte} of the batch."
            ))
            .with_hint(
                "Pass the message or the batch exactly as Sequin sent it. Nothing of this \
                     batch was applied.",
            ),
            Error::NullBatch => SqlError::new(
                sqlstate::NULL_VALUE_NOT_ALLOWED,
                "batch must not be null",
            )
            .with_hint("Pass a message, an array of messages or an envelope of them."),
            Error::MappingPaused { name } => SqlError::new(
                sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("mapping \"{name}\" is paused"),
            )
            .with_detail("Nothing of this batch was applied, so that the sender tries again later.")
            .with_hint(format!(
                "To resume it, run: UPDATE sequin.mapping SET enabled = true WHERE name = {};",
                quote::literal(name)
            )),
            Error::OutsideApply => SqlError::new(
                sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE,
                "sequin.batch() can be called only by sequin_apply",
            )
            .with_hint("Call sequin_apply(batch) to apply messages."),
            Error::NotInFrom => SqlError::new(
                sqlstate::FEATURE_NOT_SUPPORTED,
                "sequin.batch() can be called only in FROM",
            ),
            Error::Variadic => SqlError::new(
                sqlstate::FEATURE_NOT_SUPPORTED,
                "sequin.row_key does not support VARIADIC",
            )
            .with_hint("Pass each column of the key as an argument of its own."),
            Error::UnknownArgumentType { number } => SqlError::new(
                sqlstate::DATATYPE_MISMATCH,
                format!("could not determine data type of argument {number} of sequin.row_key"),
            )
            .with_detail("Something else than an expression called the function, for example a cast.")
            .with_hint("Call it in an expression, such as SELECT sequin.row_key(id) FROM table_name;"),
            Error::OwnStatement { what, why } => SqlError::new(
                sqlstate::INTERNAL_ERROR,
                format!("could not {what}: {why}"),
            ),
            Error::MappingNotFound { name, nearest } => {
                let report = SqlError::new(
                    sqlstate::UNDEFINED_OBJECT,
                    format!("mapping \"{name}\" does not exist"),
                );
                match did_you_mean(nearest) {
                    Some(hint) => report.with_hint(hint),
                    None => report.with_hint("The mappings are in the table sequin.mapping."),
                }
            }
            Error::LetterNotFound { id } => SqlError::new(
                sqlstate::UNDEFINED_OBJECT,
                format!("dead letter {id} does not exist"),
            )
            .with_hint("Those of your mappings are in the table sequin.dead_letter."),
            Error::BatchNotMapping => SqlError::new(
                sqlstate::UNDEFINED_OBJECT,
                "a batch is no name of a mapping",
            )
            .with_hint(
                "To explain a batch, name the argument, sequin.explain(batch => …), or call \
                 sequin.explain_batch(…) for a value of type text.",
            ),
            Error::NotYoursToExplain { position } => SqlError::new(
                sqlstate::INSUFFICIENT_PRIVILEGE,
                format!("messages[{position}] goes to a mapping of another role"),
            )
            .with_detail("To explain a batch shows the rows that its mappings write.")
            .with_hint("Leave such messages out, or SET ROLE to the owner of all their mappings."),
            Error::NoRelation { oid } => SqlError::new(
                sqlstate::UNDEFINED_TABLE,
                format!("relation with OID {oid} does not exist"),
            ),
            Error::NoColumn {
                name,
                relation,
                nearest,
            } => {
                let report = SqlError::new(
                    sqlstate::UNDEFINED_COLUMN,
                    format!("column \"{name}\" of {relation} does not exist"),
                );
                match did_you_mean(nearest) {
                    Some(hint) => report.with_hint(hint),
                    None => report,
                }
            }
            Error::NoColumns => SqlError::new(
                sqlstate::INVALID_PARAMETER_VALUE,
                "a list of columns is empty",
            )
            .with_hint("Leave columns out to compare all of them, and key for the primary key."),
            Error::NoBuckets { count } => SqlError::new(
                sqlstate::INVALID_PARAMETER_VALUE,
                format!("bucket_count must be at least 1, not {count}"),
            ),
            Error::NotUtf8 { encoding } => SqlError::new(
                sqlstate::FEATURE_NOT_SUPPORTED,
                format!("database encoding \"{encoding}\" is not supported"),
            )
            .with_detail("Sequin sends UTF-8, and every character of it must fit in the database.")
            .with_hint(
                "Use a database made with: CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0;",
            ),
            Error::InvalidMapping { name, faults } => summary(name, faults),
            Error::OwnerNotYours { name } => SqlError::new(
                sqlstate::INSUFFICIENT_PRIVILEGE,
                format!("only a superuser can choose the owner of mapping \"{name}\""),
            )
            .with_detail("A mapping's rows are written as its owner, which is the role that makes it.")
            .with_hint("Leave out owner; to own it as another role, SET ROLE to that role first."),
            Error::NoResync { name } => SqlError::new(
                sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("no resync of mapping \"{name}\" has begun"),
            )
            .with_hint(format!(
                "Run SELECT sequin.begin_resync({}); then a backfill in Sequin, then this.",
                quote::literal(name)
            )),
            Error::SharedDestination { name } => SqlError::new(
                sqlstate::FEATURE_NOT_SUPPORTED,
                format!("cannot tell the rows of mapping \"{name}\" from those of other mappings"),
            )
            .with_detail("Other mappings write to the same destination, and versions are not in sequin.row_version.")
            .with_hint("Use guard => 'table' for mappings that share a destination."),
            Error::Isolation => SqlError::new(
                sqlstate::ACTIVE_SQL_TRANSACTION,
                "sequin_apply must be called in a READ COMMITTED transaction",
            )
            .with_detail("Under REPEATABLE READ and SERIALIZABLE it would not see what others have applied since the transaction began.")
            .with_hint("Run SET default_transaction_isolation = 'read committed', or begin the transaction so."),
            Error::ReadOnly { standby: true } => SqlError::new(
                sqlstate::READ_ONLY_SQL_TRANSACTION,
                "cannot apply messages on a standby",
            )
            .with_hint("Connect to the primary, for example with target_session_attrs=read-write."),
            Error::ReadOnly { standby: false } => SqlError::new(
                sqlstate::READ_ONLY_SQL_TRANSACTION,
                "cannot apply messages in a read-only transaction",
            )
            .with_hint("Run SET default_transaction_read_only = off, or begin the transaction READ WRITE."),
            Error::MappingsChange => SqlError::new(
                sqlstate::SERIALIZATION_FAILURE,
                "mappings changed again and again while the call waited for them",
            )
            .with_detail("Nothing of this batch was applied.")
            .with_hint("Send the batch again."),
            Error::NullArgument { argument } => SqlError::new(
                sqlstate::NULL_VALUE_NOT_ALLOWED,
                format!("{argument} must not be null"),
            ),
        }
    }
}

impl From<JsonFault> for Error {
    fn from(fault: JsonFault) -> Error {
        Error::BadJson {
            byte: fault.byte,
            expected: fault.expected.to_owned(),
            found: fault.found,
        }
    }
}

impl From<Error> for SqlError {
    fn from(error: Error) -> SqlError {
        error.report()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_error() -> Vec<Error> {
        vec![
            Error::BadJson {
                byte: 17,
                expected: "\",\" or \"]\"".into(),
                found: "\"x\"".into(),
            },
            Error::NullBatch,
            Error::MappingPaused {
                name: "o'hara".into(),
            },
            Error::OutsideApply,
            Error::NotInFrom,
            Error::Variadic,
            Error::UnknownArgumentType { number: 1 },
            Error::OwnStatement {
                what: "read sequin.dead_letter".into(),
                why: "SPI error".into(),
            },
            Error::MappingNotFound {
                name: "a".into(),
                nearest: vec![],
            },
            Error::MappingNotFound {
                name: "a".into(),
                nearest: vec!["b".into(), "c".into()],
            },
            Error::NotUtf8 {
                encoding: "LATIN1".into(),
            },
            Error::OwnerNotYours { name: "a".into() },
            Error::NoResync { name: "a".into() },
            Error::LetterNotFound { id: 1 },
            Error::NoRelation { oid: 1 },
            Error::NoColumn {
                name: "a".into(),
                relation: "public.t".into(),
                nearest: vec!["b".into()],
            },
            Error::NoColumns,
            Error::NoBuckets { count: 0 },
            Error::BatchNotMapping,
            Error::NotYoursToExplain { position: 1 },
            Error::SharedDestination { name: "a".into() },
            Error::Isolation,
            Error::ReadOnly { standby: true },
            Error::ReadOnly { standby: false },
            Error::MappingsChange,
            Error::NullArgument { argument: "name" },
        ]
    }

    #[test]
    fn errors_have_the_server_style() {
        for error in every_error() {
            let SqlError {
                message,
                detail,
                hint,
                ..
            } = error.report();
            assert!(message.starts_with(char::is_lowercase), "{message}");
            assert!(!message.ends_with('.'), "{message}");
            for sentence in [detail, hint].into_iter().flatten() {
                assert!(sentence.starts_with(char::is_uppercase), "{sentence}");
                assert!(sentence.ends_with(['.', '?', ';']), "{sentence}");
            }
        }
    }

    #[test]
    fn bad_json_says_where() {
        let report = every_error()[0].report();
        assert_eq!(report.code, sqlstate::INVALID_TEXT_REPRESENTATION);
        assert_eq!(
            report.detail.unwrap(),
            "Expected \",\" or \"]\", but found \"x\" at byte 17 of the batch."
        );
    }

    #[test]
    fn names_are_quoted_in_statements() {
        let hint = every_error()[2].report().hint.unwrap();
        assert!(hint.ends_with("WHERE name = 'o''hara';"), "{hint}");
    }

    #[test]
    fn nearest_names_are_offered() {
        let hint = every_error()[9].report().hint.unwrap();
        assert_eq!(hint, "Did you mean \"b\" or \"c\"?");
    }
}
