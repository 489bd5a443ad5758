//! Row versions: what was applied to a row before, and so which changes of a batch are news.
//!
//! The rule is [`crate::merge`]'s. Most rows need only its first clause, newer wins, and the server
//! applies it while it writes: in the upsert's `WHERE` where the destination holds the versions
//! (`columns`), in a *claim* of `sequin.row_version` before the write where it does not (`table`).
//! Rows of which there is more to know (deletes under `columns`, moved keys, unchanged TOAST, gaps,
//! several sources) are *examined*: their state is loaded, the rule applied here, and the new state
//! stored. So that nothing changes between the two, a call that examines rows of a mapping holds an
//! exclusive lock on it; calls that only claim share the lock.
//!
//! With guard columns one source database, the *home source*, has its positions in the destination. The
//! versions of other sources are in `sequin.row_version`.

#![forbid(unsafe_code)]

pub mod claim;
mod encoding;
pub mod home;
pub mod notes;
pub mod store;
pub mod stored;
