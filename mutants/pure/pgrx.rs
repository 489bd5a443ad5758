// The part of pgrx that the rooms name.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PgSqlErrorCode {
    ERRCODE_ACTIVE_SQL_TRANSACTION,
    ERRCODE_DATATYPE_MISMATCH,
    ERRCODE_FEATURE_NOT_SUPPORTED,
    ERRCODE_GENERATED_ALWAYS,
    ERRCODE_INSUFFICIENT_PRIVILEGE,
    ERRCODE_INTERNAL_ERROR,
    ERRCODE_INVALID_COLUMN_REFERENCE,
    ERRCODE_INVALID_NAME,
    ERRCODE_INVALID_PARAMETER_VALUE,
    ERRCODE_INVALID_TEXT_REPRESENTATION,
    ERRCODE_NOT_NULL_VIOLATION,
    ERRCODE_NULL_VALUE_NOT_ALLOWED,
    ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
    ERRCODE_READ_ONLY_SQL_TRANSACTION,
    ERRCODE_T_R_SERIALIZATION_FAILURE,
    ERRCODE_UNDEFINED_COLUMN,
    ERRCODE_UNDEFINED_OBJECT,
    ERRCODE_UNDEFINED_TABLE,
    ERRCODE_WRONG_OBJECT_TYPE,
}

pub enum PgLogLevel {
    ERROR,
}

pub mod pg_sys {
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Oid(u32);

    impl Oid {
        pub fn to_u32(self) -> u32 {
            self.0
        }
    }

    impl From<u32> for Oid {
        fn from(number: u32) -> Oid {
            Oid(number)
        }
    }

    pub mod panic {
        pub struct ErrorReport;

        impl ErrorReport {
            pub fn new(_: crate::PgSqlErrorCode, _: impl Into<String>, _: &str) -> ErrorReport {
                ErrorReport
            }

            pub fn set_detail(self, _: impl Into<String>) -> ErrorReport {
                self
            }

            pub fn set_hint(self, _: impl Into<String>) -> ErrorReport {
                self
            }

            pub fn report(self, _: crate::PgLogLevel) {}
        }
    }
}

pub mod spi {
    pub fn quote_qualified_identifier(schema: &str, name: &str) -> String {
        let ident = crate::mapping::quote::ident;
        format!("{}.{}", ident(schema), ident(name))
    }
}
