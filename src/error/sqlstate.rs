//! SQLSTATEs, packed as the server packs them, and the conditions that the code asks for or raises.

#![forbid(unsafe_code)]
#![allow(dead_code)] // a condition stays here when the last line that names it goes

use std::fmt;

/// A SQLSTATE, packed as `MAKE_SQLSTATE` in `utils/elog.h` does: six bits a character.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Sqlstate(i32);

/// Bits of a packed character.
const BITS: usize = 6;

impl Sqlstate {
    /// Packs five characters.
    pub const fn new(text: &str) -> Sqlstate {
        let text = text.as_bytes();
        assert!(text.len() == 5);
        let (mut packed, mut i) = (0, 0);
        while i < text.len() {
            packed |= ((text[i] as i32 - '0' as i32) & 0x3f) << (BITS * i);
            i += 1;
        }
        Sqlstate(packed)
    }

    /// From `sqlerrcode` of an `ErrorData`.
    pub const fn from_packed(packed: i32) -> Sqlstate {
        Sqlstate(packed)
    }

    /// For `sqlerrcode` of an `ErrorData`.
    pub const fn packed(self) -> i32 {
        self.0
    }

    /// The class: its first two characters, and zeros, as the condition that names the class has it.
    pub const fn class(self) -> Sqlstate {
        Sqlstate(self.0 & ((1 << (2 * BITS)) - 1))
    }
}

impl From<&str> for Sqlstate {
    fn from(text: &str) -> Sqlstate {
        Sqlstate::new(text)
    }
}

impl fmt::Display for Sqlstate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (0..5).try_for_each(|i| {
            let character = ((self.0 >> (BITS * i)) & 0x3f) as u8 + b'0';
            fmt::Write::write_char(f, char::from(character))
        })
    }
}

impl fmt::Debug for Sqlstate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Constants named as the conditions of the server's `errcodes.txt`.
macro_rules! conditions {
    ($($name:ident = $text:literal;)*) => {
        $(#[doc = $text] pub const $name: Sqlstate = Sqlstate::new($text);)*
    };
}

// Conditions that name their class.
conditions! {
    WARNING = "01000";
    SUCCESSFUL_COMPLETION = "00000";
    CONNECTION_EXCEPTION = "08000";
    CARDINALITY_VIOLATION = "21000";
    DATA_EXCEPTION = "22000";
    INTEGRITY_CONSTRAINT_VIOLATION = "23000";
    INVALID_TRANSACTION_STATE = "25000";
    TRANSACTION_ROLLBACK = "40000";
    SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION = "42000";
    INSUFFICIENT_RESOURCES = "53000";
    OBJECT_NOT_IN_PREREQUISITE_STATE = "55000";
    OPERATOR_INTERVENTION = "57000";
    SYSTEM_ERROR = "58000";
    SNAPSHOT_TOO_OLD = "72000";
    CONFIG_FILE_ERROR = "F0000";
    FDW_ERROR = "HV000";
    PLPGSQL_ERROR = "P0000";
    INTERNAL_ERROR = "XX000";
}

// Other conditions.
conditions! {
    FEATURE_NOT_SUPPORTED = "0A000";
    CHARACTER_NOT_IN_REPERTOIRE = "22021";
    INVALID_PARAMETER_VALUE = "22023";
    INVALID_TEXT_REPRESENTATION = "22P02";
    UNTRANSLATABLE_CHARACTER = "22P05";
    NULL_VALUE_NOT_ALLOWED = "22004";
    RESTRICT_VIOLATION = "23001";
    NOT_NULL_VIOLATION = "23502";
    FOREIGN_KEY_VIOLATION = "23503";
    UNIQUE_VIOLATION = "23505";
    EXCLUSION_VIOLATION = "23P01";
    CHECK_VIOLATION = "23514";
    ACTIVE_SQL_TRANSACTION = "25001";
    READ_ONLY_SQL_TRANSACTION = "25006";
    TRIGGER_PROTOCOL_VIOLATED = "39P01";
    INVALID_SCHEMA_NAME = "3F000";
    SERIALIZATION_FAILURE = "40001";
    DEADLOCK_DETECTED = "40P01";
    SYNTAX_ERROR = "42601";
    TOO_MANY_COLUMNS = "54011";
    INSUFFICIENT_PRIVILEGE = "42501";
    INVALID_NAME = "42602";
    UNDEFINED_FUNCTION = "42883";
    UNDEFINED_COLUMN = "42703";
    UNDEFINED_OBJECT = "42704";
    GROUPING_ERROR = "42803";
    DATATYPE_MISMATCH = "42804";
    WRONG_OBJECT_TYPE = "42809";
    GENERATED_ALWAYS = "428C9";
    UNDEFINED_TABLE = "42P01";
    CONFIGURATION_LIMIT_EXCEEDED = "53400";
    LOCK_NOT_AVAILABLE = "55P03";
    QUERY_CANCELED = "57014";
    UNDEFINED_FILE = "58P01";
    INVALID_COLUMN_REFERENCE = "42P10";
    OUT_OF_MEMORY = "53200";
    PROGRAM_LIMIT_EXCEEDED = "54000";
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgrx::PgSqlErrorCode;

    #[test]
    fn packed_as_the_server_does() {
        assert_eq!(
            UNIQUE_VIOLATION.packed(),
            PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION as i32
        );
        assert_eq!(
            INTERNAL_ERROR.packed(),
            PgSqlErrorCode::ERRCODE_INTERNAL_ERROR as i32
        );
        assert_eq!(
            Sqlstate::from_packed(UNIQUE_VIOLATION.packed()),
            UNIQUE_VIOLATION
        );
    }

    #[test]
    fn read_as_written() {
        for text in [
            "00000", "23505", "42P01", "P0001", "XX000", "ZZZZZ", "22P0Z",
        ] {
            assert_eq!(Sqlstate::new(text).to_string(), text);
        }
    }

    #[test]
    fn a_class_is_its_first_two_characters() {
        assert_eq!(UNIQUE_VIOLATION.class(), INTEGRITY_CONSTRAINT_VIOLATION);
        assert_eq!(Sqlstate::new("P0001").class(), PLPGSQL_ERROR);
        assert_ne!(DEADLOCK_DETECTED.class(), INTEGRITY_CONSTRAINT_VIOLATION);
    }
}
