//! The part of pgrx that the pure modules name: errors, never raised here. `.ci/lint` says if it lacks one.

/// The SQLSTATEs that they name.
#[allow(non_camel_case_types, missing_docs)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PgSqlErrorCode {
    ERRCODE_ACTIVE_SQL_TRANSACTION,
    ERRCODE_FEATURE_NOT_SUPPORTED,
    ERRCODE_INSUFFICIENT_PRIVILEGE,
    ERRCODE_INTERNAL_ERROR,
    ERRCODE_INVALID_COLUMN_REFERENCE,
    ERRCODE_INVALID_NAME,
    ERRCODE_INVALID_PARAMETER_VALUE,
    ERRCODE_INVALID_TEXT_REPRESENTATION,
    ERRCODE_NULL_VALUE_NOT_ALLOWED,
    ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
    ERRCODE_READ_ONLY_SQL_TRANSACTION,
    ERRCODE_T_R_SERIALIZATION_FAILURE,
    ERRCODE_UNDEFINED_COLUMN,
    ERRCODE_UNDEFINED_OBJECT,
    ERRCODE_UNDEFINED_TABLE,
    ERRCODE_WRONG_OBJECT_TYPE,
}

/// How grave an error is.
pub enum PgLogLevel {
    /// It ends the statement.
    ERROR,
}

/// As pgrx has it.
pub mod pg_sys {
    /// As pgrx has it.
    pub mod panic {
        use crate::{PgLogLevel, PgSqlErrorCode};

        /// An error, to be raised.
        pub struct ErrorReport(PgSqlErrorCode, String);

        impl ErrorReport {
            /// One without DETAIL and HINT.
            pub fn new(code: PgSqlErrorCode, message: impl Into<String>, _: &str) -> ErrorReport {
                ErrorReport(code, message.into())
            }

            /// DETAIL is not kept.
            pub fn set_detail(self, _: impl Into<String>) -> ErrorReport {
                self
            }

            /// HINT is not kept.
            pub fn set_hint(self, _: impl Into<String>) -> ErrorReport {
                self
            }

            /// Fuzzing raises none.
            pub fn report(self, _: PgLogLevel) {
                panic!("{:?}: {}", self.0, self.1);
            }
        }
    }
}
