//! The extension's own settings, `sequin.*`.

#![forbid(unsafe_code)]

use std::time::Duration;

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

use crate::pg::failures::LOG_FAILURES;
use crate::pg::settings::reserve;
use crate::pg::steps;

static READ_SKEW: GucSetting<i32> = GucSetting::<i32>::new(5_000);
static MAPPING_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(0);
static HEAL_TIME: GucSetting<i32> = GucSetting::<i32>::new(200);
static KEEP_PAUSED: GucSetting<bool> = GucSetting::<bool>::new(false);
static SUPERUSER_MAPPINGS: GucSetting<bool> = GucSetting::<bool>::new(false);
static OTHER_NODES: GucSetting<bool> = GucSetting::<bool>::new(false);
static MAX_BATCH_BYTES: GucSetting<i32> = GucSetting::<i32>::new(256 << 20);
static MAX_BATCH_MESSAGES: GucSetting<i32> = GucSetting::<i32>::new(1_000_000);
static CACHE_SIZE: GucSetting<i32> = GucSetting::<i32>::new(16 << 10);
static TOMBSTONE_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(7 * 24 * 60 * 60);

/// Defines the settings. Only a superuser, or a role with a GRANT, can change them: a forwarder must not.
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
    GucRegistry::define_int_guc(
        c"sequin.mapping_timeout",
        c"How long one call may work for one mapping; 0 is as long as it takes.",
        c"When it takes longer, the mapping's messages become dead letters, and the others are written.",
        &MAPPING_TIMEOUT,
        0,
        i32::MAX,
        GucContext::Suset,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"sequin.heal_time",
        c"How long one call may retry dead letters that wait for the rows it writes.",
        c"Later calls go on with the letters that are left. The call's own messages do not wait for this.",
        &HEAL_TIME,
        0,
        i32::MAX,
        GucContext::Suset,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"sequin.cache_size",
        c"How much memory a session keeps for the plans of its mappings.",
        c"The plans of the mappings that were used least recently are dropped when a call ends.",
        &CACHE_SIZE,
        0,
        i32::MAX,
        GucContext::Suset,
        GucFlags::UNIT_KB,
    );
    GucRegistry::define_bool_guc(
        c"sequin.keep_paused",
        c"Whether messages of paused mappings are kept in sequin.dead_letter.",
        c"Otherwise a call with such a message fails, and the sender tries again.",
        &KEEP_PAUSED,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_bool_guc(
        c"sequin.allow_superuser_mappings",
        c"Whether the rows of a superuser's mapping are written as the superuser in all tables.",
        c"Otherwise the owner of the table writes them, unless it is a superuser too.",
        &SUPERUSER_MAPPINGS,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_bool_guc(
        c"sequin.allow_other_nodes",
        c"Whether tables of Citus are written through a node that is not the coordinator.",
        c"Each node orders only the changes that come through it.",
        &OTHER_NODES,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_bool_guc(
        c"sequin.log_failures",
        c"Whether failed calls are kept in sequin.failed_call.",
        c"A background worker writes them, every few seconds at most.",
        &LOG_FAILURES,
        GucContext::Suset,
        GucFlags::default(),
    );
    steps::define();
    reserve(c"sequin");
}

/// `sequin.read_skew` in microseconds.
pub fn read_skew() -> i64 {
    i64::from(READ_SKEW.get()) * 1_000
}

/// `sequin.mapping_timeout`; zero means unlimited.
pub fn mapping_timeout() -> Duration {
    Duration::from_millis(MAPPING_TIMEOUT.get().unsigned_abs().into())
}

/// `sequin.heal_time`.
pub fn heal_time() -> Duration {
    Duration::from_millis(HEAL_TIME.get().unsigned_abs().into())
}

/// `sequin.cache_size` in bytes.
pub fn cache_size() -> usize {
    CACHE_SIZE.get() as usize * 1024
}

/// `sequin.keep_paused`.
pub fn keep_paused() -> bool {
    KEEP_PAUSED.get()
}

/// `sequin.allow_superuser_mappings`.
pub fn allow_superuser_mappings() -> bool {
    SUPERUSER_MAPPINGS.get()
}

/// `sequin.allow_other_nodes`.
pub fn allow_other_nodes() -> bool {
    OTHER_NODES.get()
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
