//! Units that could not be written yet, and may work when others are written.

#![forbid(unsafe_code)]

use super::constraint::is_of_constraint;
use crate::blame::{Verdict, cause};
use crate::changes::net::Unit;
use crate::error::SqlError;
use crate::target::Target;

/// A unit that may work when others are written.
pub struct Pending {
    pub unit: Unit,
    /// Why it did not work yet.
    pub error: SqlError,
    /// How many sets the call had written when it failed; `None` if it has not been tried as it is now.
    pub written: Option<u64>,
}

impl Pending {
    /// Whether the error may come from an after trigger that misses a row which is still to come.
    pub fn may_work_together(&self, target: &Target) -> bool {
        let error = &self.error;
        let of_a_value = || error.column.is_some() || error.datatype.is_some();
        target.destination.after_triggers && !of_a_value() && !is_of_constraint(error)
    }

    /// Whether a row that arrives, or leaves, can make the unit work; or an older change of the row itself,
    /// when a column that may not be null is not known yet.
    pub fn may_work_later(&self, target: &Target) -> bool {
        match cause(&self.error) {
            Verdict::AnotherRow => true,
            Verdict::AnOlderChange => {
                let name = self.error.column.as_deref();
                let column = name.and_then(|name| target.column_number(name));
                column.is_some_and(|column| {
                    let mut nets = self.unit.nets();
                    nets.any(|net| net.present() && !net.has(column))
                })
            }
            Verdict::TheMessage | Verdict::TheCall => false,
        }
    }
}
