//! Whose an error is, as far as the place tells where it was raised.

#![forbid(unsafe_code)]

/// Who raised an error. The SQLSTATE alone does not tell: a function can raise any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Origin {
    /// This extension, or the server on its behalf.
    #[default]
    Extension,
    /// The server: it was asked to cancel, or it lacks memory, disk space or a consistent view.
    Server,
    /// SQL, triggers or types that run for a mapping (by id), or its destination.
    Mapping(i32),
    /// SQL that runs for the mapping (by id), for want of a privilege: a GRANT helps.
    Denied(i32),
    /// What the mapping (by id) writes to cannot be reached: another server.
    Unreachable(i32),
    /// Nobody: the mapping (by id) has used up its time.
    OutOfTime(i32),
}
