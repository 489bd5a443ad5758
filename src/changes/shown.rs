//! Nulls in reads that stand for values which the backfill could not read.

#![forbid(unsafe_code)]

use pgrx::pg_sys;

use super::Changes;
use super::intake::Intake;
use crate::guard::shown;
use crate::message::Action;
use crate::outcome::MessageNo;
use crate::pg::keys::output_text;
use crate::stop::Stop;
use crate::target::column::{Slot, TargetColumn};

impl<'a> Changes<'a> {
    /// Notes the columns that the messages show values of.
    pub(super) fn see_values(&mut self) -> Result<(), Stop> {
        let definer = self.intake.call.definer;
        shown::load(&mut self.target, definer)?;
        let all = |c: &TargetColumn| c.shown.is_none_or(|s| s.by_change && s.by_read);
        if self.target.columns.iter().all(all) {
            return Ok(());
        }
        let mut slots = Vec::new();
        let mut news = Vec::new();
        for n in 0..self.intake.len() {
            let number = MessageNo(n as u32);
            if self.ledger.outcome(number).is_some() {
                continue;
            }
            let message = self.intake.message(number);
            let by_read = message.action == Action::Read;
            let is_news = |column: &TargetColumn| {
                let shown = column.shown;
                shown.is_some_and(|shown| {
                    !if by_read {
                        shown.by_read
                    } else {
                        shown.by_change
                    }
                })
            };
            if !self.target.columns.iter().any(is_news) {
                continue;
            }
            self.target
                .read(message, self.intake.fields(message), &mut slots);
            for (i, slot) in slots.iter().enumerate() {
                let column = &mut self.target.columns[i];
                if !is_news(column) || is_null(&self.intake, number, column, *slot) != Some(false) {
                    continue;
                }
                if let Some(shown) = &mut column.shown {
                    match by_read {
                        true => shown.by_read = true,
                        false => shown.by_change = true,
                    }
                    news.push((i, by_read));
                }
            }
        }
        Ok(shown::note(&self.target, definer, &news)?)
    }
}

/// Takes nulls that may stand for unknown values out of the values of a read.
pub(super) fn mask<'a>(
    columns: &[TargetColumn],
    intake: &Intake<'a>,
    number: MessageNo,
    slots: &mut [Slot<'a>],
) {
    if intake.message(number).action != Action::Read {
        return;
    }
    for (column, slot) in columns.iter().zip(slots) {
        if column.hides_values() && is_null(intake, number, column, *slot) == Some(true) {
            *slot = Slot::Nothing;
        }
    }
}

/// Whether the value that a message has for a column is null; `None` if it has none.
fn is_null(
    intake: &Intake<'_>,
    number: MessageNo,
    column: &TargetColumn,
    slot: Slot<'_>,
) -> Option<bool> {
    match slot {
        Slot::Json(value) => Some(value.is_null()),
        Slot::Sql(expression) => {
            let value = intake.projected(number, false, expression);
            let type_oid = column.row.type_oid;
            let is_json = matches!(type_oid, pg_sys::JSONOID | pg_sys::JSONBOID);
            Some(value.is_none_or(|value| is_json && output_text(type_oid, value) == "null"))
        }
        Slot::Nothing | Slot::Unchanged | Slot::Partial | Slot::Constant => None,
    }
}
