//! The extension's own settings, `sequin.*`.

#![forbid(unsafe_code)]

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

use crate::pg::settings::reserve;

static READ_SKEW: GucSetting<i32> = GucSetting::<i32>::new(5_000);
static TOMBSTONE_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(7 * 24 * 60 * 60);

/// Defines them. Only a superuser (or who was granted it) changes them: a forwarder must not.
pub fn define() {
    GucRegistry::define_int_guc(
        c"sequin.read_skew",
        c"How much later than a row's last change a read must be to be applied over it.",
        c"Clocks of Sequin and of the source can differ by this much.",
        &READ_SKEW,
        0,
        i32::MAX,
        GucContext::Suset,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"sequin.tombstone_retention",
        c"How long it is remembered that a row was deleted.",
        c"A message of the row that arrives later than this can bring it back.",
        &TOMBSTONE_RETENTION,
        0,
        i32::MAX,
        GucContext::Suset,
        GucFlags::UNIT_S,
    );
    reserve(c"sequin");
}

/// `sequin.read_skew` in microseconds.
pub fn read_skew() -> i64 {
    i64::from(READ_SKEW.get()) * 1_000
}

/// `sequin.tombstone_retention` in seconds.
pub fn tombstone_retention() -> i64 {
    i64::from(TOMBSTONE_RETENTION.get())
}
