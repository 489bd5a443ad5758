//! The errors that pg_sequin itself raises: one enum, and one match that words them.
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
    /// SQL of a column or filter stands for several columns.
    SeveralColumns,
    /// SQL of a column or filter has aggregates or the like on its own level.
    NotScalar {
        /// What it has: `aggregate functions`.
        what: &'static str,
    },
    /// SQL of a column or filter is not one expression.
    NotExpression,
    /// An item of the batch is not a change message.
    NotAMessage {
        /// What is wrong with it, as a message.
        fault: String,
    },
    /// No mapping takes the messages of a table.
    Unmapped {
        /// The table, with its schema.
        table: String,
    },
    /// A delete would take rows along that a mapping writes.
    WouldCascade {
        /// The table that is deleted from.
        table: String,
        /// The table with the other rows, as SQL spells it.
        referrer: String,
        /// The foreign key.
        constraint: String,
    },
    /// A message has nothing for a column of the key.
    NoKeyValue {
        /// The column.
        column: String,
    },
    /// The SQL of a mapping gave more or fewer rows than messages.
    NotOneRow,
    /// A mapping's destination was dropped.
    DestinationGone {
        /// Name of the mapping.
        mapping: String,
    },
    /// A mapping's destination has lost its key.
    KeyGone {
        /// Name of the mapping.
        mapping: String,
        /// The destination, as SQL spells it.
        destination: String,
    },
    /// A mapping's destination has lost a column.
    ColumnGone {
        /// The column.
        column: String,
        /// Name of the mapping.
        mapping: String,
        /// The destination, as SQL spells it.
        destination: String,
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
    /// A role without the right to gives a mapping to another role.
    OwnerNotYours {
        /// Name of the mapping.
        name: String,
    },
    /// A source is to be granted that is not a pattern of source tables.
    InvalidSource {
        /// What is wrong with it.
        fault: Fault,
    },
    /// A role changes a mapping of an owner whose rights it lacks.
    MappingNotYours {
        /// Name of the mapping.
        name: String,
    },
    /// A resync is to be finished that was not begun.
    NoResync {
        /// Name of the mapping.
        name: String,
    },
    /// A resync cannot tell the mapping's rows from other mappings' rows.
    SharedDestination {
        /// Name of the mapping.
        name: String,
    },
    /// The caller's transaction does not see rows that other calls have applied.
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

/// What the SQL of a column or filter has to be.
const ONE_VALUE: &str = "It is computed from one message, and gives one value.";

/// A mapping is checked when it is made; the table has become another since then.
const TABLE_CHANGED: &str =
    "The table has changed since the mapping was made. Nothing of this batch was applied.";

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
            Error::SeveralColumns => {
                SqlError::new(sqlstate::SYNTAX_ERROR, "it stands for several columns")
                    .with_detail(ONE_VALUE)
            }
            Error::NotScalar { what } => SqlError::new(
                sqlstate::GROUPING_ERROR,
                format!("{what} are not allowed in it"),
            )
            .with_detail(ONE_VALUE),
            Error::NotExpression => {
                SqlError::new(sqlstate::SYNTAX_ERROR, "it is not one expression")
                    .with_detail(
                        "Clauses, aliases, lists and several statements have no place in it.",
                    )
                    .with_hint("A query is an expression when it is put between parentheses.")
            }
            Error::NotAMessage { fault } => {
                SqlError::new(sqlstate::INVALID_PARAMETER_VALUE, fault).with_hint(
                    "Send change messages of Sequin as they are, without a transform.",
                )
            }
            Error::Unmapped { table } => SqlError::new(
                sqlstate::UNDEFINED_OBJECT,
                format!("no mapping takes messages of table {table}"),
            )
            .with_hint(format!(
                "To write them to a table, run: SELECT sequin.map({source}, 'schema.table'); \
                 to receive and ignore them, run: SELECT sequin.map({source}, null);",
                source = quote::literal(table)
            )),
            Error::WouldCascade {
                table,
                referrer,
                constraint,
            } => SqlError::new(
                sqlstate::FOREIGN_KEY_VIOLATION,
                format!(
                    "delete on table \"{table}\" would cascade to rows of table {referrer} through \
                     foreign key constraint \"{constraint}\""
                ),
            )
            .with_detail(
                "Those rows are written by a mapping: messages of their own will move or delete them.",
            )
            .with_hint(
                "It is tried again when they come. If the source does not send them, delete the rows.",
            ),
            Error::NoKeyValue { column } => SqlError::new(
                sqlstate::NOT_NULL_VIOLATION,
                format!("key column \"{column}\" has no value in the message"),
            )
            .with_hint("Map every key column to something that each message has."),
            Error::NotOneRow => SqlError::new(
                sqlstate::CARDINALITY_VIOLATION,
                "an SQL expression of the mapping returned more or less than one row",
            )
            .with_hint("Use expressions that neither return sets nor filter."),
            Error::DestinationGone { mapping } => SqlError::new(
                sqlstate::UNDEFINED_TABLE,
                format!("the destination of mapping \"{mapping}\" does not exist"),
            )
            .with_detail("It was dropped. Nothing of this batch was applied.")
            .with_hint(format!(
                "To remove the mapping, run: SELECT sequin.unmap({}); \
                 to keep it, recreate the table and map it with sequin.map.",
                quote::literal(mapping)
            )),
            Error::KeyGone {
                mapping,
                destination,
            } => SqlError::new(
                sqlstate::INVALID_COLUMN_REFERENCE,
                format!("mapping \"{mapping}\" has no key in {destination}"),
            )
            .with_detail(TABLE_CHANGED)
            .with_hint(
                "Give the table its primary key back, or name the key's columns with \
                 sequin.map(…, key => …).",
            ),
            Error::ColumnGone {
                column,
                mapping,
                destination,
            } => SqlError::new(
                sqlstate::UNDEFINED_COLUMN,
                format!(
                    "column \"{column}\" of {destination}, which mapping \"{mapping}\" writes, does \
                     not exist"
                ),
            )
            .with_detail(TABLE_CHANGED)
            .with_hint(
                "Give the column its name back, or name the columns as they are now with \
                 sequin.map(…, columns => …).",
            ),
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
            .with_hint("Your dead letters are listed in the table sequin.dead_letter."),
            Error::BatchNotMapping => SqlError::new(
                sqlstate::UNDEFINED_OBJECT,
                "argument is a batch, not the name of a mapping",
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
            Error::InvalidSource { fault } => (**fault).clone(),
            Error::MappingNotYours { name } => SqlError::new(
                sqlstate::INSUFFICIENT_PRIVILEGE,
                format!("must have the rights of the owner of mapping \"{name}\""),
            )
            .with_detail("A mapping's SQL is run, and its rows are written, as its owner.")
            .with_hint("Let its owner change it, or SET ROLE to that role first."),
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
            .with_hint("Run SET default_transaction_isolation = 'read committed', or BEGIN ISOLATION LEVEL READ COMMITTED."),
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
mod tests;
