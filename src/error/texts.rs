//! The text of each error: SQLSTATE, message, DETAIL and HINT, in one match.
//!
//! Messages follow PostgreSQL's style: lower case and no full stop; DETAIL and HINT are sentences.

#![forbid(unsafe_code)]

use super::did_you_mean;
use super::fault::{broken, summary};
use super::{Error, SqlError, quote, refused, sqlstate};

/// The rule for the SQL of a column or filter.
const ONE_VALUE: &str = "It is computed from one message, and gives one value.";

impl Error {
    /// The error as an SQL error.
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
            Error::InvalidSource { fault } => (**fault).clone(),
            Error::MayNotExecute { kind, name } => SqlError::new(
                sqlstate::INSUFFICIENT_PRIVILEGE,
                format!("permission denied for {kind} {name}"),
            )
            .with_hint(format!(
                "Let the {kind}'s owner run: GRANT EXECUTE ON {} sequin.{name} TO the role.",
                kind.to_uppercase()
            )),
            Error::SessionLock => refused::session_lock(),
            Error::NoRole { oid } => SqlError::new(
                sqlstate::UNDEFINED_OBJECT,
                format!("role with OID {oid} does not exist"),
            )
            .with_hint("Sources are not granted to PUBLIC: grant them to each role, or to a role that these are members of."),
            Error::SetConstraints => refused::set_constraints(),
            Error::CompiledEarlier => SqlError::new(
                sqlstate::SERIALIZATION_FAILURE,
                "function was compiled before the session first called sequin_apply",
            )
            .with_detail("The types of its variables may be those of another role. The function is compiled again.")
            .with_hint("Add SET search_path to the function, and use a session of its own to call sequin_apply."),
            Error::NoCounterSlot => SqlError::new(
                sqlstate::PROGRAM_LIMIT_EXCEEDED,
                "too many prepared transactions have called sequin_apply",
            )
            .with_detail("Each of them locks a row of sequin.counter, and no row is left for this session.")
            .with_hint(
                "Commit or roll back prepared transactions: SELECT gid FROM pg_prepared_xacts; then COMMIT PREPARED.",
            ),
            Error::MappingNotYours { name } => SqlError::new(
                sqlstate::INSUFFICIENT_PRIVILEGE,
                format!("must have the rights of the owner of mapping \"{name}\""),
            )
            .with_detail("A mapping's SQL is run, and its rows are written, as its owner.")
            .with_hint("Let its owner change it, or SET ROLE to that role first."),
            Error::NullBatch => SqlError::new(
                sqlstate::NULL_VALUE_NOT_ALLOWED,
                "batch must not be null",
            )
            .with_hint("Pass a message, an array of messages or an envelope of them."),
            Error::BatchTooLarge { bytes, most } => SqlError::new(
                sqlstate::PROGRAM_LIMIT_EXCEEDED,
                format!("batch has {bytes} bytes, more than the maximum of {most}"),
            )
            .with_detail("Nothing of it was applied.")
            .with_hint(
                "Send smaller batches: Sequin's sinks have the setting batch_size. Or raise \
                 sequin.max_batch_bytes: a call takes up to four times as much memory.",
            ),
            Error::TooManyMessages { most } => SqlError::new(
                sqlstate::PROGRAM_LIMIT_EXCEEDED,
                format!("batch has more than {most} messages"),
            )
            .with_detail("Nothing of it was applied.")
            .with_hint(
                "Send smaller batches: Sequin's sinks have the setting batch_size. Or raise \
                 sequin.max_batch_messages.",
            ),
            Error::NotUnicode { byte } => SqlError::new(
                sqlstate::CHARACTER_NOT_IN_REPERTOIRE,
                "invalid byte sequence for encoding \"UTF8\" in the batch",
            )
            .with_detail(match byte {
                Some(byte) => format!("Byte {byte} of the batch begins it. Nothing of the batch was applied."),
                None => "A string of the batch has it. Nothing of the batch was applied.".to_owned(),
            })
            .with_hint("Pass the batch as Sequin sent it, as text of the encoding that client_encoding names."),
            Error::OutOfMemory => SqlError::new(sqlstate::OUT_OF_MEMORY, "out of memory")
                .with_detail("The batch needs more than the system gives. Nothing of it was applied.")
                .with_hint("Send smaller batches."),
            Error::TemporaryObject { name } => refused::temporary_object(name),
            Error::NameTaken { name } => refused::name_taken(name),
            Error::MappingPaused { name, keep } => SqlError::new(
                sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("mapping \"{name}\" is paused"),
            )
            .with_detail(match keep {
                true => "The message is kept, and applied when the mapping is enabled.",
                false => "Nothing of this batch was applied, so that the sender tries again later.",
            })
            .with_hint(format!(
                "To resume it, run: SELECT sequin.resume({});",
                quote::literal(name)
            )),
            Error::OutOfTime { mapping } => SqlError::new(
                sqlstate::QUERY_CANCELED,
                format!("canceling mapping \"{mapping}\" due to sequin.mapping_timeout"),
            )
            .with_detail("The mapping's SQL, its triggers or a lock on its table took too long.")
            .with_hint(format!(
                "To try its messages again, run: SELECT * FROM sequin.retry({});",
                quote::literal(mapping)
            )),
            Error::OutsideApply { function } => SqlError::new(
                sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("sequin_internal.{function}() can be called only by sequin_apply"),
            )
            .with_detail("It serves the statements that sequin_apply makes, and nothing that runs under them.")
            .with_hint("Call sequin_apply(batch) to apply messages."),
            Error::OutsideResync => SqlError::new(
                sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE,
                "sequin_internal.in_resync, is_confirmed, is_known, has_row and note_gone can be called only by sequin.finish_resync",
            )
            .with_detail("They serve the statements that sequin.finish_resync makes, and nothing that runs under them.")
            .with_hint("Call sequin.finish_resync(mapping) to end a resync."),
            Error::NotInFrom => SqlError::new(
                sqlstate::FEATURE_NOT_SUPPORTED,
                "sequin_internal.batch() can be called only in FROM",
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
            Error::NotJson { fault } => {
                SqlError::new(sqlstate::INVALID_TEXT_REPRESENTATION, fault).with_hint(
                    "Pass each payload exactly as Sequin sent it. A payload that never was one of Sequin's is \
                     removed by sequin.discard.",
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
            Error::RowsWent => SqlError::new(
                sqlstate::SERIALIZATION_FAILURE,
                "rows that must be written together were deleted meanwhile",
            )
            .with_hint("Nothing is to be done: a later call writes them."),
            Error::MappingInUse => SqlError::new(
                sqlstate::LOCK_NOT_AVAILABLE,
                "another call writes the rows of a mapping whose dead letters could be retried",
            )
            .with_hint("Nothing is to be done: a later call retries them."),
            Error::WouldCascade {
                update,
                table,
                referrer,
                constraint,
            } => SqlError::new(
                sqlstate::FOREIGN_KEY_VIOLATION,
                format!(
                    "{} on table \"{table}\" would cascade to rows of table {referrer} through \
                     foreign key constraint \"{constraint}\"",
                    if *update { "update" } else { "delete" }
                ),
            )
            .with_detail(
                "Those rows are written by a mapping: messages of their own will move or delete them.",
            )
            .with_hint(
                "It is tried again when they come. If the source does not send them, delete the rows.",
            ),
            Error::NoKeyValue { column, source } => SqlError::new(
                sqlstate::NOT_NULL_VIOLATION,
                format!("key column \"{column}\" has no value in the message"),
            )
            .with_detail("The value is unchanged_toast, null or absent there.")
            .with_hint(format!(
                "If the source has a value, run there: ALTER TABLE {source} REPLICA IDENTITY FULL; Else map every key \
                 column to something that each message has."
            )),
            Error::FilterUnchanged { mapping, source } => SqlError::new(
                sqlstate::NOT_NULL_VIOLATION,
                format!("the filter of mapping \"{mapping}\" reads a value that the message does not have"),
            )
            .with_detail("The message says unchanged_toast instead of the value.")
            .with_hint(format!(
                "Run at the source: ALTER TABLE {source} REPLICA IDENTITY FULL;"
            )),
            Error::TakenByAnotherSource { columns, destination, source } => SqlError::new(
                sqlstate::INTEGRITY_CONSTRAINT_VIOLATION,
                format!(
                    "key ({}) of {destination} is taken by a change of another source database",
                    quote::idents(columns)
                ),
            )
            .with_detail(format!(
                "The message is of database \"{source}\". Positions and idempotency keys of two databases can be equal."
            ))
            .with_hint(
                "Add a column to the table and to its unique key, map it to \"metadata.database.name\", and retry \
                 the dead letter.",
            ),
            Error::NotOneRow => SqlError::new(
                sqlstate::CARDINALITY_VIOLATION,
                "an SQL expression of the mapping returned more or less than one row",
            )
            .with_hint("Use expressions that neither return sets nor filter."),
            Error::DestinationGone { mapping } => SqlError::new(
                sqlstate::UNDEFINED_TABLE,
                format!("the destination of mapping \"{mapping}\" does not exist"),
            )
            .with_detail("It was dropped.")
            .with_hint(format!(
                "If there is a table in its place, run: SELECT sequin.alter_mapping({0}, destination => \
                 'schema.table'); to remove the mapping, run: SELECT sequin.unmap({0});",
                quote::literal(mapping)
            )),
            Error::NotCoordinator { destination, coordinator, database } => SqlError::new(
                sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("this node is not the coordinator of {destination}"),
            )
            .with_detail("The order of changes is kept on the node that they come through.")
            .with_hint(format!(
                "Connect to {coordinator}. If all calls come through this node, run there: \
                 ALTER DATABASE {database} SET sequin.allow_other_nodes = on;"
            )),
            Error::OwnerGone { mapping, source, other, needs_grant } => {
                let role = other.as_deref().map_or("role_name".to_owned(), quote::ident);
                let grant = format!(
                    "SELECT sequin.grant_source({}, {}); ",
                    quote::literal(source),
                    quote::literal(&role)
                );
                SqlError::new(
                    sqlstate::UNDEFINED_OBJECT,
                    format!("the owner of mapping \"{mapping}\" does not exist"),
                )
                .with_detail("The role was dropped.")
                .with_hint(format!(
                    "To give the mapping to another role, run: {}UPDATE sequin.mapping SET owner = {} WHERE name = {};",
                    if *needs_grant { &*grant } else { "" },
                    quote::literal(&role),
                    quote::literal(mapping)
                ))
            }
            Error::KeyAltered {
                mapping,
                stored,
                now,
                rows,
            } => SqlError::new(
                sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("the versions of {rows} rows of mapping \"{mapping}\" cannot follow its key"),
            )
            .with_detail(format!(
                "They are stored by the key ({stored}), and the key is ({now}) now. Without them, an older change \
                 would be applied, and a deleted row could come back."
            ))
            .with_hint(format!(
                "Run: SELECT sequin.forget_versions({0}); SELECT sequin.begin_resync({0}); then start a backfill in \
                 Sequin, and run: SELECT sequin.finish_resync({0}); To change the mapping's key, forget the versions \
                 first.",
                quote::literal(mapping)
            )),
            Error::Broken { mapping, faults } => broken(mapping, faults),
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
                    None => report.with_hint("The view sequin.status lists your mappings."),
                }
            }
            Error::LetterNotFound { id } => SqlError::new(
                sqlstate::UNDEFINED_OBJECT,
                format!("dead letter {id} does not exist"),
            )
            .with_hint("The view sequin.own_dead_letter lists your dead letters."),
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
            Error::NoSetting { name, nearest } => SqlError::new(
                sqlstate::INVALID_PARAMETER_VALUE,
                format!("mappings have no setting \"{name}\" that can be reset"),
            )
            .with_hint(did_you_mean(nearest).unwrap_or_else(|| {
                "The settings that reset takes are enabled, destination, columns, key, filter, mode, on_delete, soft_delete, on_error and guard."
                    .to_owned()
            })),
            Error::SetAndReset { name } => SqlError::new(
                sqlstate::INVALID_PARAMETER_VALUE,
                format!("{name} is both set and reset"),
            )
            .with_hint("Give it a value, or name it in reset."),
            Error::NoResync { name } => SqlError::new(
                sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("no resync of mapping \"{name}\" has begun"),
            )
            .with_hint(format!(
                "Run SELECT sequin.begin_resync({}); then a backfill in Sequin, then this.",
                quote::literal(name)
            )),
            Error::ResyncUnderWay {
                name,
                since,
                confirmed,
            } => SqlError::new(
                sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("a resync of mapping \"{name}\" is in progress"),
            )
            .with_detail(format!(
                "It began at {since}, and messages have confirmed {confirmed} rows since."
            ))
            .with_hint(format!(
                "When the backfill's messages are applied, run: SELECT sequin.finish_resync({0}); To start over, run: \
                 SELECT sequin.cancel_resync({0});",
                quote::literal(name)
            )),
            Error::HardlyConfirmed {
                name,
                destination,
                since,
                confirmed,
                rows,
                share,
            } => SqlError::new(
                sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!(
                    "resync of mapping \"{name}\" would remove {} of the {rows} rows of {destination}",
                    rows - confirmed
                ),
            )
            .with_detail(match share {
                Some(share) => format!(
                    "Only {confirmed} of {rows} rows were confirmed since {since}, which is less than the share {share}."
                ),
                None => format!(
                    "No read has arrived since {since}. {confirmed} of {rows} rows were confirmed."
                ),
            })
            .with_hint(format!(
                "Start a backfill in Sequin, and finish the resync when its messages are applied. If these rows are \
                 gone at the source, run: SELECT sequin.finish_resync({0}, min_confirmed => 0); To keep them, run: \
                 SELECT sequin.cancel_resync({0});",
                quote::literal(name)
            )),
            Error::NoShare { share } => SqlError::new(
                sqlstate::INVALID_PARAMETER_VALUE,
                format!("min_confirmed must be between 0 and 1, not {share}"),
            )
            .with_hint("It is the share of the rows that messages must have confirmed: 0.5 is half of them."),
            Error::NothingToConfirm { name } => SqlError::new(
                sqlstate::FEATURE_NOT_SUPPORTED,
                format!("mapping \"{name}\" appends rows and cannot be resynced"),
            )
            .with_detail("Each of its messages becomes a row. No message confirms a row that is there.")
            .with_hint("Delete the rows that should not be there, and start a backfill in Sequin."),
            Error::ResyncBeganAgain { name } => SqlError::new(
                sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("another resync of mapping \"{name}\" has begun"),
            )
            .with_detail("It began after sequin.finish_resync_in_portions was called. Rows that were deleted before stay so.")
            .with_hint(format!(
                "When the backfill's messages are applied, run: CALL sequin.finish_resync_in_portions({});",
                quote::literal(name)
            )),
            Error::RowsLocked { name, tries } => SqlError::new(
                sqlstate::LOCK_NOT_AVAILABLE,
                format!("could not lock rows of mapping \"{name}\" in {tries} attempts"),
            )
            .with_detail("Other sessions hold locks on rows of the destination, or on the mapping. Rows that were deleted before stay so, and the resync is in progress.")
            .with_hint(format!(
                "When these sessions have committed, run again: CALL sequin.finish_resync_in_portions({});",
                quote::literal(name)
            )),
            Error::SharedDestination { name } => SqlError::new(
                sqlstate::FEATURE_NOT_SUPPORTED,
                format!("cannot tell the rows of mapping \"{name}\" from those of other mappings"),
            )
            .with_detail("Other mappings write to the same destination, and versions are not in sequin.row_version.")
            .with_hint("Use guard => 'table' for mappings that share a destination."),
            Error::Isolation { function } => SqlError::new(
                sqlstate::ACTIVE_SQL_TRANSACTION,
                format!("{function} must be called in a READ COMMITTED transaction"),
            )
            .with_detail("Under REPEATABLE READ and SERIALIZABLE it would not see what others have applied since the transaction began.")
            .with_hint(
                "Run SET default_transaction_isolation = 'read committed', or BEGIN ISOLATION LEVEL READ COMMITTED. \
                 In psycopg: connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED; \
                 in pg: client.query('BEGIN ISOLATION LEVEL READ COMMITTED'); \
                 in JDBC: connection.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED); \
                 in pgx: pgx.TxOptions{IsoLevel: pgx.ReadCommitted}.",
            ),
            Error::ReadOnly { work, standby: true } => SqlError::new(
                sqlstate::READ_ONLY_SQL_TRANSACTION,
                format!("cannot {work} on a standby"),
            )
            .with_hint("Connect to the primary, for example with target_session_attrs=read-write."),
            Error::ReadOnly { work, standby: false } => SqlError::new(
                sqlstate::READ_ONLY_SQL_TRANSACTION,
                format!("cannot {work} in a read-only transaction"),
            )
            .with_hint("Run SET default_transaction_read_only = off, or begin the transaction READ WRITE."),
            Error::MappingsChange => SqlError::new(
                sqlstate::SERIALIZATION_FAILURE,
                "mappings changed again and again while the call waited for them",
            )
            .with_detail("Nothing of this call was applied.")
            .with_hint("Send the batch again."),
            Error::NoAttemptStands { attempts } => SqlError::new(
                sqlstate::SERIALIZATION_FAILURE,
                format!("could not apply the messages in {attempts} attempts"),
            )
            .with_detail("Each attempt had to begin again. Nothing of this call was applied.")
            .with_hint("Send the batch again. If that does not help, please report it with the batch: it is a bug in pg_sequin."),
            Error::NotOfMapping => SqlError::new(
                sqlstate::TRIGGER_PROTOCOL_VIOLATED,
                "function can be used only by the triggers of sequin.mapping",
            )
            .with_hint("Drop the trigger of the other table."),
            Error::DiscardsAll => SqlError::new(
                sqlstate::NULL_VALUE_NOT_ALLOWED,
                "one of mapping, sqlstate and older_than must not be null",
            )
            .with_hint("To discard all of your dead letters, run: CALL sequin.discard(null, null, older_than => '0');"),
            Error::NullArgument { argument } => SqlError::new(
                sqlstate::NULL_VALUE_NOT_ALLOWED,
                format!("{argument} must not be null"),
            ),
        }
    }
}

impl From<Error> for SqlError {
    fn from(error: Error) -> SqlError {
        error.report()
    }
}
