//! SQL in a mapping: expressions and the filter, evaluated by the server for the whole batch at once,
//! as the mapping's owner and under the search_path that it was made with.

use bumpalo::Bump;
use pgrx::pg_sys::{self, Datum};

use crate::cast::Caster;
use crate::json::Json;
use crate::mapping::Mapping;
use crate::pg::settings::Settings;
use crate::pg::spi::{Plan, Returned};
use crate::pg::trap::SqlError;
use crate::pg::tuples::{RowColumn, RowType, Rows};
use crate::statement::{self, Expression};
use crate::target::{Source, TargetColumn};

/// What an expression sees of a message.
pub struct Input<'a> {
    /// `record`
    pub record: Json<'a>,
    /// `changes`
    pub changes: Option<Json<'a>>,
    /// `metadata`
    pub metadata: Json<'a>,
    /// `action`
    pub action: &'a str,
}

/// The expressions of a mapping, prepared.
pub struct Projection {
    plan: Plan,
    rows: RowType,
    jsonb: Caster,
    text: Caster,
    search_path: String,
    /// Number of expressions, the filter included.
    width: usize,
    /// Which expression is the filter.
    pub filter: Option<usize>,
}

/// What the expressions gave, a row for each input.
pub struct Projected {
    returned: Returned,
    order: Vec<usize>,
    width: usize,
}

impl Projection {
    /// Prepares the expressions of `columns` and the filter; `None` if there are none. Columns that
    /// take an expression's value take its type as well: the statement that writes them coerces it
    /// as an assignment does.
    pub fn make(
        mapping: &Mapping,
        columns: &mut [TargetColumn],
        expressions: &[Expression],
        in_key: impl Fn(usize) -> bool,
    ) -> Result<Option<Projection>, SqlError> {
        let filter = mapping.filter.as_ref().map(|_| expressions.len());
        let width = expressions.len() + usize::from(filter.is_some());
        if width == 0 {
            return Ok(None);
        }
        let column = |name: &str, type_oid| RowColumn {
            name: name.to_owned(),
            type_oid,
            typmod: -1,
            collation: pg_sys::InvalidOid,
        };
        let mut text = column("action", pg_sys::TEXTOID);
        text.collation = pg_sys::DEFAULT_COLLATION_OID;
        let rows = RowType::new(&[
            column("sequin_n", pg_sys::INT4OID),
            column("record", pg_sys::JSONBOID),
            column("changes", pg_sys::JSONBOID),
            column("metadata", pg_sys::JSONBOID),
            text,
        ]);
        let settings = Settings::new(&[]);
        settings.set(c"search_path", &mapping.search_path);
        let plan = Plan::prepare(&statement::project(expressions, mapping.filter.as_deref()))?;
        let mut projection = Projection {
            plan,
            rows,
            jsonb: Caster::new(pg_sys::JSONBOID, -1),
            text: Caster::new(pg_sys::TEXTOID, -1),
            search_path: mapping.search_path.clone(),
            width,
            filter,
        };
        drop(settings);
        let types = projection.run(&[], &Bump::new())?.returned.types();
        for (i, column) in columns.iter_mut().enumerate() {
            let Source::Sql(number) = column.source else {
                continue;
            };
            if in_key(i) {
                continue;
            }
            let type_oid = match types[number + 1] {
                pg_sys::UNKNOWNOID => pg_sys::TEXTOID,
                type_oid => type_oid,
            };
            column.row.type_oid = type_oid;
            column.row.typmod = -1;
            column.sql.type_name = crate::pg::keys::type_name(type_oid);
        }
        Ok(Some(projection))
    }

    /// Evaluates the expressions for each input.
    pub fn run(&mut self, inputs: &[Input<'_>], memory: &Bump) -> Result<Projected, SqlError> {
        let settings = Settings::new(&[]);
        settings.set(c"search_path", &self.search_path);
        let mut rows = Rows::new();
        for (n, input) in inputs.iter().enumerate() {
            let parts = [Some(input.record), input.changes, Some(input.metadata)];
            let mut values = [
                Datum::from(n as i32),
                Datum::null(),
                Datum::null(),
                Datum::null(),
                Datum::null(),
            ];
            let mut nulls = [false, true, true, true, true];
            for (i, part) in parts.into_iter().enumerate() {
                let Some(part) = part else { continue };
                if let Some(value) = self.jsonb.cast(part, memory)? {
                    values[i + 1] = value;
                    nulls[i + 1] = false;
                }
            }
            let action = format!("\"{}\"", input.action);
            if let Some(value) = self.text.cast(Json::Text(&action), memory)? {
                values[4] = value;
                nulls[4] = false;
            }
            rows.put(&self.rows, &mut values, &mut nulls)?;
        }
        let outcome = self.plan.run(rows)?;
        let returned = outcome.returned.expect("a SELECT returns rows");
        let mut order = vec![usize::MAX; inputs.len()];
        let (mut values, mut nulls) = (
            vec![Datum::null(); self.width + 1],
            vec![false; self.width + 1],
        );
        for i in 0..returned.len() {
            returned.read(i, &mut values, &mut nulls);
            order[values[0].value() as i32 as usize] = i;
        }
        if returned.len() != inputs.len() || order.contains(&usize::MAX) {
            return Err(SqlError::new(
                "21000",
                "an SQL expression of the mapping returned more or less than one row",
            )
            .with_hint("Use expressions that neither return sets nor filter."));
        }
        Ok(Projected {
            returned,
            order,
            width: self.width,
        })
    }
}

impl Projected {
    /// The value of an expression for an input; `None` is null.
    pub fn get(&self, input: usize, expression: usize) -> Option<Datum> {
        let (mut values, mut nulls) = (
            vec![Datum::null(); self.width + 1],
            vec![false; self.width + 1],
        );
        self.returned
            .read(self.order[input], &mut values, &mut nulls);
        (!nulls[expression + 1]).then(|| values[expression + 1])
    }
}
