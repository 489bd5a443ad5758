//! The errors that pg_sequin itself raises: one enum, and one match for their texts.
//!
//! Messages follow PostgreSQL's style: lower case and no full stop; DETAIL and HINT are sentences.
//! SQLSTATE, DETAIL and HINT are part of the interface.

#![forbid(unsafe_code)]

pub mod fault;
pub mod nearest;
pub mod origin;
pub mod quote;
mod refused;
pub mod report;
pub mod shards;
pub mod sqlstate;
mod texts;

pub use report::{SqlError, did_you_mean, list};

use crate::json::JsonFault;
use fault::Fault;

/// An error that pg_sequin raises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The batch is not JSON.
    BadJson {
        /// Place in the batch, in bytes from 0.
        byte: usize,
        /// The expected text: `a value`, `"," or "]"`.
        expected: String,
        /// The text found: `the end of the batch`, `"x"`.
        found: String,
    },
    /// The batch is null.
    NullBatch,
    /// The batch is larger than `sequin.max_batch_bytes`.
    BatchTooLarge {
        /// Size of the batch, in bytes.
        bytes: usize,
        /// The limit, in bytes.
        most: usize,
    },
    /// The batch has more messages than `sequin.max_batch_messages`.
    TooManyMessages {
        /// The limit, in messages.
        most: usize,
    },
    /// The batch is not UTF-8.
    NotUnicode {
        /// Place of the first invalid byte, from 0, if known.
        byte: Option<usize>,
    },
    /// The system has no memory left.
    OutOfMemory,
    /// SQL of a mapping's owner uses a temporary object of another role.
    TemporaryObject {
        /// Its name.
        name: String,
    },
    /// A name in a statement of the extension means something else than when it was read.
    NameTaken {
        /// The name.
        name: String,
    },
    /// A message is routed to a mapping that is not enabled.
    MappingPaused {
        /// Name of the mapping.
        name: String,
        /// Whether the message is kept.
        keep: bool,
    },
    /// A mapping has used up its time in the call.
    OutOfTime {
        /// Name of the mapping.
        mapping: String,
    },
    /// A function was not called by the statement of `sequin_apply` that it serves.
    OutsideApply {
        /// The function: `batch`.
        function: &'static str,
    },
    /// A function was not called by the statement of `sequin.finish_resync` that it serves.
    OutsideResync,
    /// `sequin_internal.batch()` was called where a set cannot be returned.
    NotInFrom,
    /// `sequin.row_key` was called with the keyword VARIADIC.
    Variadic,
    /// The caller of `sequin.row_key` did not pass the types of its arguments.
    UnknownArgumentType {
        /// Number of the argument, from 1.
        number: usize,
    },
    /// SQL of a column or filter stands for several columns.
    SeveralColumns,
    /// SQL of a column or filter has aggregates or the like on its own level.
    NotScalar {
        /// The construct found: `aggregate functions`.
        what: &'static str,
    },
    /// SQL of a column or filter is not one expression.
    NotExpression,
    /// An item of the batch is not a change message.
    NotAMessage {
        /// The fault, as a message.
        fault: String,
    },
    /// An item of the batch is not JSON.
    NotJson {
        /// The fault, as a message.
        fault: String,
    },
    /// No mapping takes the messages of a table.
    Unmapped {
        /// The table, with its schema.
        table: String,
    },
    /// Somebody else may have compiled a function in PL/pgSQL, which is compiled again.
    CompiledEarlier,
    /// The code of a mapping takes or releases an advisory lock that outlives the transaction.
    SessionLock,
    /// Sources are granted to what is no role.
    NoRole {
        /// The OID.
        oid: u32,
    },
    /// The code of a mapping defers constraints, or has deferred ones checked, for the whole transaction.
    SetConstraints,
    /// Prepared transactions lock all rows of `sequin.counter` that the backend may write.
    NoCounterSlot,
    /// Another call holds a lock on a mapping.
    MappingInUse,
    /// Rows that must be written together were deleted, by somebody else, after they had been read.
    RowsWent,
    /// A delete, or an update, would cascade to rows that a mapping writes.
    WouldCascade {
        /// Whether it is an update.
        update: bool,
        /// The table whose row goes or changes.
        table: String,
        /// The table with the other rows, as SQL spells it.
        referrer: String,
        /// The foreign key.
        constraint: String,
    },
    /// A message has no value for a column of the key.
    NoKeyValue {
        /// The column.
        column: String,
        /// The source table, quoted.
        source: String,
    },
    /// The filter of an append mapping reads a value that the message does not repeat.
    FilterUnchanged {
        /// Name of the mapping.
        mapping: String,
        /// The source table, quoted.
        source: String,
    },
    /// The key of an appended row is in the table already, for a change of another source database.
    TakenByAnotherSource {
        /// The columns by which the table tells changes apart.
        columns: Vec<String>,
        /// The destination, as SQL spells it.
        destination: String,
        /// The source database of the message.
        source: String,
    },
    /// The SQL of a mapping gave more or fewer rows than messages.
    NotOneRow,
    /// A mapping's destination was dropped.
    DestinationGone {
        /// Name of the mapping.
        mapping: String,
    },
    /// A mapping writes a table of Citus through a node that is not the coordinator.
    NotCoordinator {
        /// The table, as SQL spells it.
        destination: String,
        /// The coordinator: host and port.
        coordinator: String,
        /// The database, as SQL spells it.
        database: String,
    },
    /// A mapping's owner was dropped.
    OwnerGone {
        /// Name of the mapping.
        mapping: String,
        /// Its source.
        source: String,
        /// A role that could own it.
        other: Option<String>,
        /// Whether that role needs a grant of the source.
        needs_grant: bool,
    },
    /// The versions of rows are stored by another key, and the keys now cannot be computed.
    KeyAltered {
        /// Name of the mapping.
        mapping: String,
        /// The columns and types of the stored keys.
        stored: String,
        /// The columns and types of the key now.
        now: String,
        /// How many rows have a version whose key cannot be computed.
        rows: usize,
    },
    /// A mapping does not fit its destination any more.
    Broken {
        /// Name of the mapping.
        mapping: String,
        /// All faults that keep it from writing; at least one.
        faults: Vec<Fault>,
    },
    /// A statement of the extension itself failed.
    OwnStatement {
        /// The work that failed: `read sequin.dead_letter`.
        what: String,
        /// The cause.
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
    /// The argument is a batch, not the name of a mapping.
    BatchNotMapping,
    /// A batch to explain goes to a mapping of another role.
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
    /// The mapping is invalid.
    InvalidMapping {
        /// Name of the mapping.
        name: String,
        /// All faults of the mapping; at least one.
        faults: Vec<Fault>,
    },
    /// A role tries to give a mapping to another role without the right to do so.
    OwnerNotYours {
        /// Name of the mapping.
        name: String,
    },
    /// The source in a grant is not a pattern of source tables.
    InvalidSource {
        /// What is wrong with it.
        fault: Fault,
    },
    /// A role without EXECUTE calls a function or procedure of schema `sequin`.
    MayNotExecute {
        /// `function` or `procedure`.
        kind: &'static str,
        /// Its name, without the schema.
        name: &'static str,
    },
    /// A role changes a mapping of an owner whose rights it lacks.
    MappingNotYours {
        /// Name of the mapping.
        name: String,
    },
    /// A mapping has no setting of this name that has a default.
    NoSetting {
        /// The name asked for.
        name: String,
        /// Names that look like it, best first.
        nearest: Vec<String>,
    },
    /// A setting of a mapping is to have a new value, and its default as well.
    SetAndReset {
        /// The setting.
        name: String,
    },
    /// The resync to finish was not begun.
    NoResync {
        /// Name of the mapping.
        name: String,
    },
    /// A resync is to begin while one is in progress.
    ResyncUnderWay {
        /// Name of the mapping.
        name: String,
        /// When it began.
        since: String,
        /// How many rows were confirmed since.
        confirmed: i64,
    },
    /// A resync would remove rows, and hardly any message has confirmed some.
    HardlyConfirmed {
        /// Name of the mapping.
        name: String,
        /// The destination, as SQL spells it.
        destination: String,
        /// When the resync began.
        since: String,
        /// How many rows were confirmed since.
        confirmed: i64,
        /// How many rows there are.
        rows: i64,
        /// The share of the rows that must be confirmed; `None` if no read has come.
        share: Option<String>,
    },
    /// A share is not between 0 and 1.
    NoShare {
        /// The share.
        share: String,
    },
    /// A mapping that appends rows is to be resynced.
    NothingToConfirm {
        /// Name of the mapping.
        name: String,
    },
    /// Another resync of the mapping has begun since this one was to be finished.
    ResyncBeganAgain {
        /// Name of the mapping.
        name: String,
    },
    /// Rows to delete were locked by another session for long.
    RowsLocked {
        /// Name of the mapping.
        name: String,
        /// How often it was tried.
        tries: i32,
    },
    /// A resync cannot tell the mapping's rows from other mappings' rows.
    SharedDestination {
        /// Name of the mapping.
        name: String,
    },
    /// The caller's transaction does not see rows that other calls have applied.
    Isolation {
        /// What was called: `sequin_apply`.
        function: &'static str,
    },
    /// The caller's transaction may not write.
    ReadOnly {
        /// The refused work: `apply messages`.
        work: &'static str,
        /// Whether the reason is that the server is a standby.
        standby: bool,
    },
    /// The mappings changed at every restart of the call.
    MappingsChange,
    /// The last attempt of a call had to begin again, as all others.
    NoAttemptStands {
        /// How many there were.
        attempts: usize,
    },
    /// A trigger's function of the extension is used for another table than its own.
    NotOfMapping,
    /// `sequin.discard` is called without anything that says which letters.
    DiscardsAll,
    /// An argument that must have a value is null.
    NullArgument {
        /// The argument.
        argument: &'static str,
    },
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

#[cfg(test)]
mod tests;
