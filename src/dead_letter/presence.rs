//! The mappings and tables that have dead letters. A call whose messages concern none of them does not
//! query the letters.

#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::error::SqlError;
use crate::mapping::catalog;
use crate::pg::invalidation;
use crate::prepared::{BatchRow, Kept, RowReader};

/// The mappings and tables that have dead letters.
#[derive(Debug, Default)]
pub struct Presence {
    /// Mappings (by id) that have letters with a known row.
    of: HashSet<i32>,
    /// Tables whose rows letters wait for.
    on: HashSet<pg_sys::Oid>,
    /// Mappings (by id) with letters that were kept while the mapping was paused or broken.
    kept: HashSet<i32>,
    /// Mappings (by id) that are known to be broken, each with the message of its error.
    broken: HashMap<i32, String>,
    /// Whether any letter is waiting or paused.
    any: bool,
    /// Whether calls have left letters to later calls.
    ready: bool,
    /// Whether letters bring other keys and values than the key of their row.
    brings: bool,
    /// Whether letters wait for a value of their own table, too.
    or: bool,
}

/// Each part reads one row: the server may execute an EXISTS for all mappings at once, which reads all letters.
const PRESENCE: &str = "
    select m.id, m.destination::oid,
           (select true from sequin.dead_letter l where l.mapping = m.name and l.row_key is not null limit 1),
           (select true from sequin.dead_letter l
            where l.state = 'waiting' and l.waits_on = m.destination limit 1),
           (select true from sequin.dead_letter l where l.state in ('waiting', 'paused') limit 1),
           (select true from sequin.dead_letter l
            where l.mapping = m.name and (l.state = 'paused' or l.state = 'waiting'
                  and l.row_key is null and l.waits_on is null) limit 1),
           (select b.reason from sequin.broken_mapping b where b.mapping = m.id),
           (select true from sequin.ready_row limit 1),
           (select true from sequin.dead_letter l
            where l.mapping = m.name and l.state = 'waiting' and l.brings is not null limit 1),
           (select true from sequin.dead_letter l
            where l.mapping = m.name and l.state = 'waiting' and l.waits_or is not null limit 1)
    from sequin.mapping m";

/// Most of the time there are no letters at all, and planning the query above takes as long as all the rest of a session's
/// first call.
const ANY: &str = "
    select (select true from sequin.dead_letter l order by l.id limit 1) is not null
           or (select true from sequin.broken_mapping b limit 1) is not null
           or (select true from sequin.ready_row r limit 1) is not null";

thread_local! {
    static LOOK: Kept = const { Kept::new(ANY, &[("nothing", pg_sys::INT4OID)]) };
    // The plan is made for any number of letters.
    static LOAD: Kept = const { Kept::new(PRESENCE, &[("nothing", pg_sys::INT4OID)]) };
}

impl Presence {
    /// Loads the presence from the catalog.
    pub fn load() -> Result<Presence, SqlError> {
        let mut presence = Presence::default();
        let looked = LOOK.with(|query| query.query(std::iter::empty(), |row: BatchRow| row))?;
        let mut look = RowReader::new(&looked);
        if look.next() && look.bool(0) == Some(false) {
            return Ok(presence);
        }
        let returned = LOAD.with(|query| query.query(std::iter::empty(), |row: BatchRow| row))?;
        let mut row = RowReader::new(&returned);
        while row.next() {
            let mapping = row.int(0).unwrap_or_default();
            let destination = row.oid(1);
            let is = |column| row.bool(column) == Some(true);
            if is(2) {
                presence.of.insert(mapping);
            }
            presence.or |= is(9);
            if is(3) || is(9) {
                presence.on.extend(destination);
            }
            presence.any |= is(4);
            if is(5) {
                presence.kept.insert(mapping);
            }
            if let Some(reason) = row.text(6) {
                presence.broken.insert(mapping, reason);
            }
            presence.ready |= is(7);
            presence.brings |= is(8);
        }
        Ok(presence)
    }

    /// Whether a mapping has letters with a known row.
    pub fn of_mapping(&self, mapping: i32) -> bool {
        self.of.contains(&mapping)
    }

    /// Whether letters wait for rows of a table.
    pub fn wait_for(&self, table: pg_sys::Oid) -> bool {
        self.on.contains(&table)
    }

    /// Whether a mapping has letters that were kept while it was paused or broken.
    pub fn kept_for(&self, mapping: i32) -> bool {
        self.kept.contains(&mapping)
    }

    /// The message of the error for which a mapping is known to be broken.
    pub fn broken_by(&self, mapping: i32) -> Option<&String> {
        self.broken.get(&mapping)
    }

    /// Whether calls have left letters to later calls.
    pub fn any_ready(&self) -> bool {
        self.ready
    }

    /// Whether letters bring other keys and values than the key of their row.
    pub fn any_brings(&self) -> bool {
        self.brings
    }

    /// Whether letters wait for a value of their own table, too.
    pub fn any_or(&self) -> bool {
        self.or
    }

    /// Whether any letter is waiting or paused.
    pub fn any_waits(&self) -> bool {
        self.any
    }
}

/// The relation whose invalidation notifies all sessions that letters or broken mappings changed.
pub fn announced() -> pg_sys::Oid {
    catalog::oid("sequin.dead_letter_id_seq")
}

/// Runs after a statement that inserted or updated letters, and notifies all sessions.
#[pg_trigger(sql = false)]
fn dead_letter_changed<'a>(
    _trigger: &'a PgTrigger<'a>,
) -> Result<Option<PgHeapTuple<'a, AllocatedByRust>>, PgTriggerError> {
    invalidation::announce(announced());
    Ok(None)
}
