//! Notes how the records of source tables drift from the mappings, and warns of it once.

#![forbid(unsafe_code)]

use std::collections::HashMap;

use pgrx::pg_sys::{self, Datum};
use pgrx::{IntoDatum, PgLogLevel, PgSqlErrorCode};

use crate::changes::Changes;
use crate::error::SqlError;
use crate::error::quote::literal;
use crate::mapping::catalog;
use crate::pg::clock;
use crate::pg::invalidation;
use crate::pg::user::ActingAs;
use crate::prepared::{Kept, RowReader};
use crate::target::shapes::{Drift, Noted, RecordShape, Taken};

const SELECT: &str = "
    select r.key, r.drift, r.committed_at, r.taken
    from sequin_internal.batch() b(mapping integer, source text, backfill boolean)
    cross join lateral (select k.* from sequin.record_key k
                        where k.mapping = b.mapping and k.source = b.source
                          and k.backfill = b.backfill offset 0) r";

const NOTE: &str = "
    insert into sequin.record_key as k (mapping, source, backfill, key, drift, committed_at, taken)
    select b.mapping, b.source, b.backfill, b.key, b.drift, b.committed_at, b.taken
    from sequin_internal.batch() b(mapping integer, source text, backfill boolean, key text, drift text,
                          committed_at timestamptz, taken boolean)
    on conflict (mapping, source, backfill, key) do update
    set drift = excluded.drift, committed_at = excluded.committed_at, since = excluded.since,
        taken = excluded.taken";

const TABLE: [(&str, pg_sys::Oid); 3] = [
    ("mapping", pg_sys::INT4OID),
    ("source", pg_sys::TEXTOID),
    ("backfill", pg_sys::BOOLOID),
];

/// The most keys that are noted of a source table. Records with ever new keys must not fill the catalog.
const MOST: usize = 4000;

thread_local! {
    static READ: Kept = const { Kept::new(SELECT, &TABLE) };
    static WRITE: Kept = const {
        Kept::new(
            NOTE,
            &[
                TABLE[0],
                TABLE[1],
                TABLE[2],
                ("key", pg_sys::TEXTOID),
                ("drift", pg_sys::TEXTOID),
                ("committed_at", pg_sys::TIMESTAMPTZOID),
                ("taken", pg_sys::BOOLOID),
            ],
        )
    };
}

/// Compares the shapes of records that are new to the session with what is noted of their tables.
pub fn note(all: &mut [Changes<'_>], definer: pg_sys::Oid) -> Result<(), SqlError> {
    for changes in all {
        let target = &mut changes.target;
        if target.shapes.fresh().is_empty() {
            continue;
        }
        let mapping = target.mapping.id;
        let _definer = ActingAs::new(definer, false);
        // This call does not wait for another one that notes the same.
        if !invalidation::try_lock_notes(catalog::relation(), mapping) {
            target.shapes.later();
            continue;
        }
        let taken = Taken::new(&target.mapping, &target.destination, &target.columns);
        let mut results = Vec::new();
        for shape in target.shapes.fresh() {
            let mut noted = noted(mapping, shape)?;
            if noted.len() > MOST {
                results.push((false, false));
                continue;
            }
            let found = taken.compare(&noted, shape);
            write(mapping, shape, &found, &taken)?;
            warn(&target.mapping.name, shape, &found);
            let news = !found.is_empty();
            for (key, drift) in found {
                let committed_at = shape.committed_at;
                let taken = Some(taken.takes(&key));
                noted.insert(
                    key,
                    Noted {
                        drift,
                        taken,
                        committed_at,
                    },
                );
            }
            let mut drifts = noted.values().filter_map(|noted| noted.drift);
            results.push((news, drifts.any(Drift::is_told)));
        }
        target.shapes.compared(&results);
    }
    Ok(())
}

fn noted(mapping: i32, shape: &RecordShape) -> Result<HashMap<String, Noted>, SqlError> {
    let returned = READ.with(|statement| {
        statement.query_of(vec![
            Some(Datum::from(mapping)),
            shape.source.as_str().into_datum(),
            Some(Datum::from(shape.backfill)),
        ])
    })?;
    let mut noted = HashMap::new();
    let mut row = RowReader::new(&returned);
    while row.next() {
        let drift = row.text(1).as_deref().and_then(Drift::of_name);
        let committed_at = row.time(2);
        let taken = row.bool(3);
        noted.extend(row.text(0).map(|key| {
            (
                key,
                Noted {
                    drift,
                    taken,
                    committed_at,
                },
            )
        }));
    }
    Ok(noted)
}

fn write(
    mapping: i32,
    shape: &RecordShape,
    found: &[(String, Option<Drift>)],
    taken: &Taken,
) -> Result<(), SqlError> {
    if found.is_empty() {
        return Ok(());
    }
    let row = |(key, drift): &(String, Option<Drift>)| {
        vec![
            Some(Datum::from(mapping)),
            shape.source.as_str().into_datum(),
            Some(Datum::from(shape.backfill)),
            key.as_str().into_datum(),
            drift.and_then(|drift| drift.name().into_datum()),
            clock::datum(shape.committed_at),
            Some(Datum::from(taken.takes(key))),
        ]
    };
    WRITE
        .with(|statement| statement.execute(found.iter(), row))
        .map(drop)
}

fn warn(mapping: &str, shape: &RecordShape, found: &[(String, Option<Drift>)]) {
    let of = |drift: Drift| {
        let keys = found.iter().filter(|(_, now)| *now == Some(drift));
        let keys: Vec<String> = keys.map(|(key, _)| format!("\"{key}\"")).collect();
        keys.join(", ")
    };
    let (not_taken, lacking) = (of(Drift::NotTaken), of(Drift::Lacking));
    // A key that comes alone may be one that the mapping leaves out on purpose.
    if not_taken.is_empty() || lacking.is_empty() {
        return;
    }
    let kind = if shape.backfill { "reads" } else { "changes" };
    pgrx::pg_sys::panic::ErrorReport::new(
        PgSqlErrorCode::ERRCODE_WARNING,
        format!(
            "{kind} of {} drift from mapping \"{mapping}\"",
            shape.source
        ),
        "sequin_apply",
    )
    .set_detail(format!(
        "No column takes the new keys {not_taken}. The records lack the keys {lacking}, which columns are read from."
    ))
    .set_hint(format!(
        "If a column was renamed at the source, do the same here, or change the mapping: SELECT \
         sequin.alter_mapping({0}, columns => …). If all is as it should be, run: SELECT sequin.accept_drift({0});",
        literal(mapping)
    ))
    .report(PgLogLevel::WARNING);
}
