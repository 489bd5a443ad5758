//! The extension's own settings, `sequin.*`.

#![forbid(unsafe_code)]

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

static READ_SKEW: GucSetting<i32> = GucSetting::<i32>::new(5_000);
static MAX_BATCH_BYTES: GucSetting<i32> = GucSetting::<i32>::new(256 << 20);
static MAX_BATCH_MESSAGES: GucSetting<i32> = GucSetting::<i32>::new(1_000_000);
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
        c"sequin.max_batch_bytes",
        c"How many bytes a batch may have.",
        c"A call takes up to four times as much memory. Larger batches are refused.",
        &MAX_BATCH_BYTES,
        1024,
        i32::MAX,
        GucContext::Suset,
        GucFlags::UNIT_BYTE,
    );
    GucRegistry::define_int_guc(
        c"sequin.max_batch_messages",
        c"How many messages a batch may have.",
        c"Batches with more are refused.",
        &MAX_BATCH_MESSAGES,
        1,
        i32::MAX,
        GucContext::Suset,
        GucFlags::default(),
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
}

/// `sequin.read_skew` in microseconds.
pub fn read_skew() -> i64 {
    i64::from(READ_SKEW.get()) * 1_000
}

/// `sequin.max_batch_bytes`.
pub fn max_batch_bytes() -> usize {
    MAX_BATCH_BYTES.get() as usize
}

/// `sequin.max_batch_messages`.
pub fn max_batch_messages() -> usize {
    MAX_BATCH_MESSAGES.get() as usize
}

/// `sequin.tombstone_retention` in seconds.
pub fn tombstone_retention() -> i64 {
    i64::from(TOMBSTONE_RETENTION.get())
}
