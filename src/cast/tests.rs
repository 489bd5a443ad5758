//! Tests that need a server: the input functions, and that the fast paths give the same results.

mod dice;
mod documents;
mod fast;
mod matrix;
mod values;

use pgrx::prelude::*;

use super::*;
use crate::pg::subtransaction::subtransaction;
use crate::pg::typeio::look;

/// The OID and the modifier of a column of this type, which SQL spells `name`.
fn column_type(name: &str) -> (pg_sys::Oid, i32) {
    Spi::run("drop table if exists pg_temp.probe").expect("dropped");
    Spi::run(&format!("create temp table probe (c {name})")).expect(name);
    let found = Spi::get_two::<pg_sys::Oid, i32>(
        "select atttypid, atttypmod from pg_attribute
     where attrelid = 'pg_temp.probe'::regclass and attnum = 1",
    );
    match found.expect("the column is found") {
        (Some(oid), Some(typmod)) => (oid, typmod),
        other => panic!("{name}: {other:?}"),
    }
}

/// Sets the settings that `sequin_apply` pins.
fn pin_settings() {
    for set in [
        "datestyle = 'ISO, MDY'",
        "intervalstyle = postgres",
        "timezone = 'UTC'",
    ] {
        Spi::run(&format!("set {set}")).expect(set);
    }
    Spi::run("set bytea_output = hex; set extra_float_digits = 1").expect("set");
}

struct Column {
    oid: pg_sys::Oid,
    caster: Caster,
}

impl Column {
    fn new(name: &str) -> Column {
        let (oid, typmod) = column_type(name);
        let caster = Caster::new(oid, typmod);
        Column { oid, caster }
    }

    /// A column without the fast path.
    fn slow(name: &str) -> Column {
        let mut column = Column::new(name);
        column.caster.fast = Fast::No;
        column
    }

    fn of(&mut self, value: Json<'_>) -> Result<Option<(Vec<u8>, String)>, SqlError> {
        let (oid, out) = (self.oid, Bump::new());
        subtransaction(|| self.caster.cast(value, &out))
            .map(|datum| datum.map(|datum| (look::image(oid, datum), look::text(oid, datum))))
    }

    /// Casts by the fast path only.
    fn fast(&mut self, value: Json<'_>, out: &Bump) -> Option<(Vec<u8>, String)> {
        let datum = self
            .caster
            .fast
            .read(value, &mut self.caster.encoder, out)?;
        Some((look::image(self.oid, datum), look::text(self.oid, datum)))
    }

    /// Casts by the input function only.
    fn input(&mut self, value: Json<'_>) -> Result<(Vec<u8>, String), SqlError> {
        let (oid, out) = (self.oid, Bump::new());
        subtransaction(|| self.caster.read(value, &out))
            .map(|datum| (look::image(oid, datum), look::text(oid, datum)))
    }

    /// The text that the cast value prints.
    fn text(&mut self, json: &str) -> Result<Option<String>, SqlError> {
        let value = Json::parse(json).expect(json);
        self.of(value).map(|of| of.map(|(_, text)| text))
    }

    /// The error's SQLSTATE and message.
    fn fault(&mut self, json: &str) -> (String, String) {
        let error = self.text(json).expect_err(json);
        (error.sqlstate(), error.message)
    }
}

fn text(of: &str, json: &str) -> String {
    let text = Column::new(of).text(json);
    text.unwrap_or_else(|e| panic!("{of} {json}: {e:?}"))
        .expect("not null")
}

fn fault(of: &str, json: &str) -> (String, String) {
    Column::new(of).fault(json)
}

/// Whether the server offers these extensions: some servers are built without any.
fn offered(names: &[&str]) -> bool {
    let sql = "select count(*) from pg_available_extensions where name = any ($1)";
    let count = Spi::get_one_with_args::<i64>(sql, &[names.to_vec().into()]);
    let all = count.ok().flatten() == Some(names.len() as i64);
    if !all {
        pgrx::warning!("left out: this server does not offer all of {names:?}");
    }
    all
}

fn jsonb_bytes(json: &str) -> Vec<u8> {
    let (out, value) = (Bump::new(), Json::parse(json).expect(json));
    let mut caster = Caster::new(pg_sys::JSONBOID, -1);
    let datum = caster.read(value, &out).expect(json);
    look::image(pg_sys::JSONBOID, datum)
}
