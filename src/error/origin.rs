//! The origin of an error, as far as the place of its raise shows it.

#![forbid(unsafe_code)]

/// Who raised an error. The SQLSTATE alone does not show this: a function can raise any SQLSTATE.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Origin {
    /// This extension, or the server on its behalf.
    #[default]
    Extension,
    /// The server: it was asked to cancel, or it lacks memory, disk space or a consistent view.
    Server,
    /// SQL, triggers or types that run for a mapping (by id), or its destination.
    Mapping(i32),
    /// SQL that runs for the mapping (by id) and lacks a privilege: a GRANT helps.
    Denied(i32),
    /// Another server that the mapping (by id) writes to and that cannot be reached.
    Unreachable(i32),
    /// The time limit: the mapping (by id) has used up its time.
    OutOfTime(i32),
}
