//! Units that could not be written yet, and that may succeed after other units are written.

#![forbid(unsafe_code)]

use super::constraint::is_of_constraint;
use super::older::may_bring;
use crate::blame::{Verdict, cause};
use crate::changes::Changes;
use crate::changes::net::Unit;
use crate::error::SqlError;
use crate::target::Target;

/// A unit that may succeed after other units are written.
pub struct Pending {
    pub unit: Unit,
    /// Why the unit failed the last time.
    pub error: SqlError,
    /// How many sets the call had written when the unit failed; `None` if the unit was not tried in its
    /// present form.
    pub written: Option<u64>,
    /// Whether the error is the error of a set that contained the unit. Another unit of the set may have
    /// caused it.
    pub of_set: bool,
}

impl Pending {
    /// Whether an after trigger may have raised the error because it misses a row that is still to come.
    pub fn may_work_together(&self, target: &Target) -> bool {
        let error = &self.error;
        let of_a_value = || error.column.is_some() || error.datatype.is_some();
        target.destination.links.after_triggers && !of_a_value() && !is_of_constraint(error)
    }

    /// Whether the unit can succeed later: when another row arrives or leaves, or when an older change of the
    /// same row brings the value of a column that may not be null.
    pub fn may_work_later(&self, changes: &Changes<'_>) -> bool {
        match cause(&self.error) {
            Verdict::AnotherRow => true,
            Verdict::AnOlderChange => {
                let name = self.error.column.as_deref();
                let column = name.and_then(|name| changes.target.column_number(name));
                column.is_some_and(|column| may_bring(changes, &self.unit, column))
            }
            Verdict::TheMessage | Verdict::TheCall => false,
        }
    }
}
