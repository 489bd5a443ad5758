//! SQL in a mapping: expressions and the filter. The server evaluates them for the whole batch at once, as
//! the mapping's owner and under the search_path that was set when the mapping was made.

#![forbid(unsafe_code)]

use bumpalo::Bump;
use pgrx::pg_sys::{self, Datum};

use super::column::{Source, TargetColumn};
use super::expression::{Expression, project};
use crate::cast::Caster;
use crate::destination::Destination;
use crate::error::{Error, SqlError};
use crate::json::Json;
use crate::mapping::Mapping;
use crate::mapping::members::reads_member;
use crate::pg::settings::Settings;
use crate::pg::spi::{Plan, Returned};
use crate::pg::subtransaction::subtransaction;
use crate::pg::tuples::{RowColumn, RowType, Rows};

/// The parts of a message that an expression can use.
pub struct Input<'a> {
    /// The message's position in the batch.
    pub position: usize,
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
    /// Each expression by itself, the filter last, with a plan that is prepared after a failure.
    alone: Vec<(Expression, Option<Plan>)>,
    /// The number of expressions, the filter included.
    width: usize,
    /// The number of the filter among the expressions.
    pub filter: Option<usize>,
    /// The text of the statement.
    pub sql: String,
}

/// The number of the `action` part, behind the parts that are documents.
const ACTION: usize = 3;

/// The results of the expressions, one row per input.
pub struct Projected {
    results: Results,
    order: Vec<usize>,
    width: usize,
}

enum Results {
    /// The rows as the statement returned them. A rollback frees them.
    Returned(Returned),
    /// Values in memory of their own, the number of the input before the expressions'.
    Copied(Vec<Vec<Option<Datum>>>),
}

impl Projection {
    /// How many bytes the server keeps for the statements and their plans.
    pub fn memory(&self) -> usize {
        let alone = self.alone.iter().filter_map(|(_, plan)| plan.as_ref());
        self.plan.memory() + alone.map(Plan::memory).sum::<usize>()
    }

    /// Prepares the expressions of `columns` and the filter; `None` if there are none. A column outside the
    /// key takes the type of its expression: the statement that writes the column coerces the value as an
    /// assignment does.
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
        let settings = Settings::search_path(&mapping.search_path);
        let sql = project(expressions, mapping.filter.as_deref());
        let mut projection = Projection {
            plan: Plan::prepare(&sql)?,
            sql,
            rows,
            jsonb: Caster::new(pg_sys::JSONBOID, -1),
            text: Caster::new(pg_sys::TEXTOID, -1),
            search_path: mapping.search_path.clone(),
            alone: expressions
                .iter()
                .cloned()
                .chain(mapping.filter.iter().map(|sql| Expression {
                    sql: sql.clone(),
                    key_type: None,
                }))
                .map(|expression| (expression, None))
                .collect(),
            width,
            filter,
        };
        drop(settings);
        let types = projection.run(&[], &Bump::new())?.types();
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

    /// Whether an expression reads this member of the record, as far as its text says.
    pub fn reads(&self, member: &str) -> bool {
        let mut all = self.alone.iter();
        all.any(|(expression, _)| reads_member(&expression.sql, member))
    }

    /// The expressions that read one of these members of the record.
    pub fn readers(&self, members: &[&str]) -> Vec<usize> {
        let reads = |sql: &str| members.iter().any(|member| reads_member(sql, member));
        let all = self.alone.iter().enumerate();
        all.filter(|(_, (expression, _))| reads(&expression.sql))
            .map(|(i, _)| i)
            .collect()
    }

    /// Evaluates the expressions for each input.
    pub fn run(&mut self, inputs: &[Input<'_>], memory: &Bump) -> Result<Projected, SqlError> {
        let _settings = Settings::search_path(&self.search_path);
        let rows = self.rows(inputs, memory).map_err(|(_, error)| error)?;
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
            return Err(Error::NotOneRow.into());
        }
        Ok(Projected {
            results: Results::Returned(returned),
            order,
            width: self.width,
        })
    }

    /// The batch relation of the inputs. An error comes with the number of the input's part that caused it.
    fn rows(&mut self, inputs: &[Input<'_>], memory: &Bump) -> Result<Rows, (usize, SqlError)> {
        let mut rows = Rows::new();
        for (n, input) in inputs.iter().enumerate() {
            let parts = input.parts();
            let mut values = [
                Datum::from(n as i32),
                Datum::null(),
                Datum::null(),
                Datum::null(),
                Datum::null(),
            ];
            let mut nulls = [false, true, true, true, true];
            for (i, (_, part)) in parts.into_iter().enumerate() {
                let Some(part) = part else { continue };
                if let Some(value) = self.jsonb.cast(part, memory).map_err(|error| (i, error))? {
                    values[i + 1] = value;
                    nulls[i + 1] = false;
                }
            }
            let action = format!("\"{}\"", input.action);
            if let Some(value) = self
                .text
                .cast(Json::Text(&action), memory)
                .map_err(|error| (ACTION, error))?
            {
                values[4] = value;
                nulls[4] = false;
            }
            rows.put(&self.rows, &mut values, &mut nulls)
                .map_err(|error| (ACTION, error))?;
        }
        Ok(rows)
    }

    /// Adds the place of an error to the error: the part of the input, or the expression of the mapping.
    pub fn locate(
        &mut self,
        error: SqlError,
        input: &Input<'_>,
        columns: &[TargetColumn],
        destination: &Destination,
        memory: &Bump,
    ) -> SqlError {
        let position = input.position;
        let _settings = Settings::search_path(&self.search_path);
        let inputs = std::slice::from_ref(input);
        let parts = subtransaction(|| match self.rows(inputs, memory) {
            Ok(_) => Ok(()),
            Err((i, error)) => {
                let (name, part) = input.parts().into_iter().nth(i).unwrap_or(("action", None));
                let inner = part.map(|part| self.jsonb.place(part, &error, memory));
                Err((name, inner.unwrap_or_default()))
            }
        });
        if let Err((name, inner)) = parts {
            return error.at(&format!("messages[{position}].{name}{inner}"));
        }
        // The filter comes first, as in the statement: a failing filter is the culprit, whatever else
        // fails.
        let mut order = self.filter.into_iter().chain(0..self.alone.len());
        let culprit = order.find(|&i| self.fails_alone(i, inputs, memory));
        let culprit = culprit.map(
            |i| match columns.iter().find(|c| c.source == Source::Sql(i)) {
                Some(column) => {
                    let of = destination.column(&column.name);
                    let of = of.map_or(&column.sql.type_name, |of| &of.type_name);
                    format!(", SQL of column \"{}\" of type {of}", column.name)
                }
                None => ", filter of the mapping".to_owned(),
            },
        );
        error.at(&format!(
            "messages[{position}]{}",
            culprit.unwrap_or_default()
        ))
    }

    fn fails_alone(&mut self, i: usize, inputs: &[Input<'_>], memory: &Bump) -> bool {
        subtransaction(|| {
            let rows = self.rows(inputs, memory).map_err(|(_, error)| error)?;
            let (expression, plan) = &mut self.alone[i];
            let plan = match plan {
                Some(plan) => plan,
                None => {
                    let expression = std::slice::from_ref(&*expression);
                    plan.insert(Plan::prepare(&project(expression, None))?)
                }
            };
            plan.run(rows).map(drop)
        })
        .is_err()
    }
}

impl Input<'_> {
    /// The parts that are documents, by name.
    fn parts(&self) -> [(&'static str, Option<Json<'_>>); 3] {
        [
            ("record", Some(self.record)),
            ("changes", self.changes),
            ("metadata", Some(self.metadata)),
        ]
    }
}

impl Projected {
    /// The types of the number and of the expressions.
    fn types(&self) -> Vec<pg_sys::Oid> {
        match &self.results {
            Results::Returned(returned) => returned.types(),
            Results::Copied(_) => Vec::new(),
        }
    }

    /// The same results in the current memory context.
    pub fn copied(self) -> Projected {
        let results = match self.results {
            Results::Returned(returned) => {
                Results::Copied((0..returned.len()).map(|i| returned.copy(i)).collect())
            }
            copied => copied,
        };
        Projected { results, ..self }
    }

    /// The value of an expression for an input; `None` is null.
    pub fn get(&self, input: usize, expression: usize) -> Option<Datum> {
        let row = self.order[input];
        let returned = match &self.results {
            Results::Returned(returned) => returned,
            Results::Copied(rows) => return rows[row][expression + 1],
        };
        let (mut values, mut nulls) = (
            vec![Datum::null(); self.width + 1],
            vec![false; self.width + 1],
        );
        returned.read(row, &mut values, &mut nulls);
        (!nulls[expression + 1]).then(|| values[expression + 1])
    }
}
