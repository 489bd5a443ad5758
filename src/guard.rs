//! Row versions: which change was applied to a row last, and so which changes of a batch are news.
//!
//! The rule is [`crate::merge`]'s. Most rows need only its first clause, newer wins, and the server applies
//! this clause while it writes: in the upsert's `WHERE` where the destination holds the versions
//! (`columns`), in a *claim* of `sequin.row_version` before the write where it does not (`table`). All
//! other rows (deletes under `columns`, moved keys, unchanged TOAST, gaps, several sources) are *examined*:
//! their state is loaded, the rule applied here, and the new state stored. Examined rows and their entries are locked
//! when they are loaded, so that nothing changes between load and store. What is not there cannot be locked: the call
//! looks afterwards whether another call has written it meanwhile, and begins again if so. Before all that, a look without
//! locks finds the rows of a batch that came before ([`glance`]).
//!
//! With guard columns one source database, the *home source*, has its positions in the destination. The
//! versions of other sources are in `sequin.row_version`.

#![forbid(unsafe_code)]

pub mod appended;
pub mod claim;
mod encoding;
mod entries;
pub mod glance;
pub mod home;
pub mod notes;
pub mod pages;
pub mod rekey;
pub mod store;
pub mod stored;
pub mod supply;
pub mod told;
