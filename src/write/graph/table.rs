//! The rows of one mapping's waiting changes, as they are now and as they will be.

#![forbid(unsafe_code)]

use pgrx::pg_sys::Datum;

use crate::changes::Changes;
use crate::changes::net::{NetChange, NetEffect};
use crate::destination::constraints::Constraints;
use crate::destination::{Column, Referrer};
use crate::error::SqlError;
use crate::key::{self, KeyColumn};
use crate::pg::spi::Returned;
use crate::pg::tuples::RowColumn;
use crate::prepared::{Recent, RowReader};
use crate::target::Target;
use crate::write::keys::read_rows;

/// The values of a row, in the order of [`Table::columns`]; `None` is null.
pub type Image = Vec<Option<Datum>>;

/// The rows of one mapping's waiting changes.
pub struct Table<'t> {
    pub target: &'t Target,
    /// The columns that constraints read, and the key columns.
    pub columns: Vec<&'t Column>,
    /// For each change, its row now; `None` if the row does not exist.
    pub now: Vec<Option<Image>>,
    /// For each change, its row afterwards; `None` if the row is then gone.
    pub then: Vec<Option<Image>>,
    // Owns the memory of the images' values.
    _returned: Vec<Returned>,
}

impl<'t> Table<'t> {
    /// Reads the rows of these net changes, as the mapping's owner.
    pub fn read(
        changes: &'t Changes<'_>,
        constraints: &Constraints,
        nets: &[&NetChange],
    ) -> Result<Table<'t>, SqlError> {
        let target = &changes.target;
        let columns = columns(target, constraints);
        let mut table = Table {
            target,
            columns,
            now: vec![None; nets.len()],
            then: Vec::with_capacity(nets.len()),
            _returned: Vec::new(),
        };
        table.read_now(changes, nets)?;
        for (n, net) in nets.iter().enumerate() {
            let then = table.after(changes, net, table.now[n].as_ref());
            table.then.push(then);
        }
        table.generate(constraints)?;
        Ok(table)
    }

    fn read_now(&mut self, changes: &Changes<'_>, nets: &[&NetChange]) -> Result<(), SqlError> {
        let nets = nets.iter().copied();
        let found = read_rows(self.target, &changes.nets.values, &self.columns, nets)?;
        let mut row = RowReader::new(&found);
        while row.next() {
            let image = (0..self.columns.len()).map(|i| row.datum(i + 1)).collect();
            self.now[row.index(0)] = Some(image);
        }
        drop(row);
        self._returned.push(found);
        Ok(())
    }

    /// The row after a change, without its generated columns.
    fn after(&self, changes: &Changes<'_>, net: &NetChange, now: Option<&Image>) -> Option<Image> {
        let target = self.target;
        let mark = target.mark();
        let (provided, replaces, marked) = match &net.effect {
            NetEffect::Write { replaces, .. } => (true, *replaces, false),
            NetEffect::Mark { .. } => (true, false, true),
            NetEffect::Delete { .. } => (
                false,
                false,
                now.filter(|_| changes.is_marked(net)).map(|_| true)?,
            ),
        };
        let image = self.columns.iter().enumerate().map(|(i, column)| {
            if let Some(mark) = mark
                && mark.is_column(&column.name)
            {
                return match marked {
                    true => Some(mark.value(changes.intake.message(net.message).committed_at)),
                    false => mark.unset(),
                };
            }
            let number = target.column_number(&column.name);
            match number.filter(|&number| provided && net.has(number)) {
                Some(number) => changes.nets.values.get(net.row, number),
                None if replaces => None,
                None => now.and_then(|now| now[i]),
            }
        });
        Some(image.collect())
    }

    /// Computes the generated columns of the rows as they will be.
    fn generate(&mut self, constraints: &Constraints) -> Result<(), SqlError> {
        let generated: Vec<(usize, &str)> = self
            .columns
            .iter()
            .enumerate()
            .filter(|(_, column)| column.generated)
            .filter_map(|(i, column)| {
                let mut all = constraints.generated.iter();
                let (_, sql) = all.find(|(name, _)| *name == column.name)?;
                Some((i, sql.as_str()))
            })
            .collect();
        if generated.is_empty() {
            return Ok(());
        }
        let base: Vec<usize> = (0..self.columns.len())
            .filter(|&i| !self.columns[i].generated)
            .collect();
        let (definition, row) = self.definition(&base);
        let n = self.number();
        let list: Vec<String> = generated
            .iter()
            .map(|(_, sql)| format!("({sql})"))
            .collect();
        let sql = format!(
            "select b.{n}, {} from sequin_internal.batch() b({definition})",
            list.join(", ")
        );
        let mut statement = Recent::new(sql, &row)?;
        let found = statement.query(self.present(), |(n, image)| self.numbered(n, image, &base))?;
        let mut row = RowReader::new(&found);
        while row.next() {
            let image = self.then[row.index(0)]
                .as_mut()
                .expect("the query was over existing images");
            for (at, (i, _)) in generated.iter().enumerate() {
                image[*i] = row.datum(at + 1);
            }
        }
        drop(row);
        self._returned.push(found);
        Ok(())
    }

    /// The rows that will exist, with their numbers.
    fn present(&self) -> impl Iterator<Item = (usize, &Image)> + use<'_> {
        let images = self.then.iter().enumerate();
        images.filter_map(|(n, image)| Some((n, image.as_ref()?)))
    }

    /// A column name for the numbers of rows. No column of the destination begins with this name.
    pub fn number(&self) -> String {
        let mut name = String::from("sequin_n");
        let columns = &self.target.destination.columns;
        while columns.iter().any(|column| column.name.starts_with(&name)) {
            name.push('_');
        }
        name
    }

    /// The number of a column among [`Self::columns`].
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// The columns that a foreign key refers to, in its order; `None` if one of them is not among [`Self::columns`].
    pub fn referred(&self, referrer: &Referrer) -> Option<Vec<usize>> {
        let columns = referrer.columns.iter();
        columns.map(|(_, to, _)| self.column(to)).collect()
    }

    /// A column definition list for a row number and these columns, and the types of its columns.
    fn definition(&self, columns: &[usize]) -> (String, Vec<RowColumn>) {
        let n = self.number();
        let mut definition = format!("{n} integer");
        let mut row = vec![RowColumn::number(&n)];
        for column in columns.iter().map(|&i| self.columns[i]) {
            definition += &format!(", {}", column.definition());
            row.push(column.row());
        }
        (definition, row)
    }

    fn numbered(&self, n: usize, image: &Image, columns: &[usize]) -> Image {
        let mut row = vec![Some(Datum::from(n as i32))];
        row.extend(columns.iter().map(|&i| image[i]));
        row
    }

    /// Runs a query over a relation `x` with these images. Its columns are a row number and `columns`.
    pub fn ask<'i>(
        &self,
        columns: &[usize],
        images: impl Iterator<Item = (usize, &'i Image)>,
        query: &str,
    ) -> Result<Returned, SqlError> {
        let (definition, row) = self.definition(columns);
        let sql = format!(
            "with x as materialized (select * from sequin_internal.batch() x({definition})) {query}"
        );
        let mut statement = Recent::new(sql, &row)?;
        statement.query(images, |(n, image)| self.numbered(n, image, columns))
    }

    /// Like [`Self::ask`], over the rows as they will be.
    pub fn ask_of_all(&self, columns: &[usize], query: &str) -> Result<Returned, SqlError> {
        self.ask(columns, self.present(), query)
    }

    /// The values of some columns as bytes; `None` if one of them is null.
    pub fn bytes(&self, image: &Image, columns: &[usize]) -> Option<Vec<u8>> {
        let values: Option<Vec<Datum>> = columns.iter().map(|&i| image[i]).collect();
        let encoding: Vec<KeyColumn> = columns
            .iter()
            .map(|&i| KeyColumn::new(self.columns[i].type_oid, self.columns[i].collation))
            .collect();
        let mut bytes = Vec::new();
        key::encode(&encoding, &values?, &mut bytes);
        Some(bytes)
    }
}

/// The columns that constraints read, and the key columns, in the order of the table. If one of them is generated:
/// all columns.
fn columns<'t>(target: &'t Target, constraints: &Constraints) -> Vec<&'t Column> {
    let key = target.key.iter().map(|&i| target.columns[i].name.as_str());
    let of = constraints.foreign_keys.iter().flat_map(|key| &key.columns);
    let referrers = target.destination.links.referrers.iter();
    let to = referrers.flat_map(|r| r.columns.iter().map(|(_, to, _)| to.as_str()));
    let exclusive = constraints.exclusions.iter().flat_map(|e| &e.reads);
    let names: Vec<&str> = key
        .chain(of.map(|column| column.of.as_str()))
        .chain(to)
        .chain(exclusive.map(String::as_str))
        .collect();
    let all = &target.destination.columns;
    let read = |column: &&Column| names.contains(&column.name.as_str());
    if all.iter().filter(read).any(|column| column.generated) {
        return all.iter().collect();
    }
    all.iter().filter(read).collect()
}
