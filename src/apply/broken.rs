//! Which mappings are broken, and which work again.

#![forbid(unsafe_code)]

use super::attempts::Attempts;
use super::registry::Registry;
use crate::blame::may_be_of_all;
use crate::changes::Changes;
use crate::dead_letter::broken;
use crate::error::SqlError;
use crate::error::origin::Origin;
use crate::outcome::Outcome;

/// The error for which the messages of a mapping failed, if it is the mapping's and no row could be written. (To delete a
/// row that is not there is no work.)
pub fn of_all(changes: &Changes<'_>) -> Option<SqlError> {
    let failures = &changes.ledger.failures;
    let first = failures.first()?;
    let broken = failures.iter().all(|failure| may_be_of_all(&failure.error))
        && !changes.ledger.outcomes().contains(&Some(Outcome::Upserted));
    broken.then(|| first.error.clone())
}

/// Notes which mappings are broken, and which work again.
pub fn note_broken(
    registry: &Registry,
    attempts: &Attempts,
    all: &[Changes<'_>],
) -> Result<(), SqlError> {
    let letters = &registry.letters;
    let broken: Vec<(i32, &SqlError)> = attempts
        .aside
        .iter()
        .map(|(id, error)| (*id, error))
        .filter(|(_, error)| !matches!(error.origin, Origin::OutOfTime(_)))
        .filter(|(id, error)| letters.broken_by(*id) != Some(&error.message))
        .collect();
    let mended: Vec<i32> = all
        .iter()
        .map(|changes| changes.target.mapping.id)
        .filter(|id| letters.broken_by(*id).is_some())
        .collect();
    broken::note(&broken)?;
    broken::mended(&mended)
}
