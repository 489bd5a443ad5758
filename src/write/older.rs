//! Values that an older change of the row may bring, for columns that may not be null.

#![forbid(unsafe_code)]

use pgrx::pg_sys::BuiltinOid;

use crate::changes::Changes;
use crate::changes::net::{NetChange, Unit};
use crate::mapping::{Path, Root};
use crate::message::Action;
use crate::pg::user::ActingAs;
use crate::prepared::Lookup;
use crate::target::column::Source;

/// Whether records of the mapping had the member, or could have had it.
const HAD: &str =
    "select exists (select from sequin.record_key k where k.mapping = $1 and k.key = $2)";

thread_local! {
    static WAS_THERE: Lookup = const {
        Lookup::new(HAD, &[BuiltinOid::INT4OID, BuiltinOid::TEXTOID])
    };
}

/// Whether an older change of a row of the unit may bring a value of the column, which the unit lacks.
pub fn may_bring(changes: &Changes<'_>, unit: &Unit, column: usize) -> bool {
    let lacks = |net: &&NetChange| net.present() && !net.has(column);
    unit.nets().filter(lacks).any(|net| {
        let mut run = net.run.changes();
        run.any(|change| leaves_to_older(changes, change, column))
    })
}

/// Whether a change leaves the column to an older change: it has the member without a value (`unchanged_toast`, or a value
/// that a backfill cannot read), or it is an update that lacks a member which records had. An insert and a read have
/// every column of the source.
fn leaves_to_older(changes: &Changes<'_>, change: u32, column: usize) -> bool {
    let message = changes.intake.message(changes.keyed.change(change).message);
    let member = match &changes.target.columns[column].source {
        Source::Field(name) => Some(name),
        Source::Path(Path {
            root: Root::Record,
            keys,
        }) => keys.first(),
        Source::Path(_) | Source::Constant(_) | Source::Sql(_) => None,
    };
    let Some(member) = member else { return true };
    let fields = changes.intake.fields(message);
    if fields.iter().any(|field| field.key == *member) {
        return true;
    }
    message.action == Action::Update && {
        let _definer = ActingAs::new(changes.intake.call.definer, false);
        let args = [changes.target.mapping.id.into(), member.as_str().into()];
        WAS_THERE.with(|query| query.rows(&args, |row| row.get(1))) == [Some(true)]
    }
}
