//! Random tables, which refer to each other, and what must be unique in them.

use support::Random;

/// Deferred at both sides.
const BOTH: &str = "deferrable initially deferred";

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// A key, or what refers to one: one of few.
    Number,
    Text,
    Range,
}

#[derive(Debug, Clone)]
pub struct Column {
    pub name: String,
    pub of: Of,
    pub not_null: bool,
}

#[derive(Debug, Clone)]
pub struct TableOf {
    pub name: String,
    /// The first one is the key.
    pub columns: Vec<Column>,
    /// Columns that are unique without being the key, and not deferrable.
    referenced: Vec<usize>,
    deferrable_key: bool,
    /// The number of the second column of the key.
    pub key: Option<usize>,
}

/// `child.column` refers to `parent.target`.
#[derive(Debug, Clone)]
pub struct Reference {
    pub child: usize,
    pub column: String,
    pub parent: usize,
    pub target: String,
}

#[derive(Debug, Clone)]
pub struct Schema {
    pub tables: Vec<TableOf>,
    pub references: Vec<Reference>,
    constraints: Vec<String>,
    /// What the destination has instead of a statement of the source: unique indexes that no constraint makes.
    indexes: Vec<(String, String)>,
    /// Tables whose deleted rows stay, marked.
    pub soft: Vec<String>,
    /// Other types than `int` and `text`, keys and foreign keys of two columns, other actions.
    is_wide: bool,
    /// Tables that backfills read.
    pub read: Vec<String>,
    pub number: &'static str,
    pub text: &'static str,
}

impl Schema {
    pub fn random(random: &mut Random, is_wide: bool) -> Schema {
        let (number, text) = match is_wide {
            true => (
                *random.of(&["int", "bigint", "smallint", "numeric"]),
                *random.of(&["text", "char(1)", "varchar(2)", "letter"]),
            ),
            false => ("int", "text"),
        };
        let count = [1, 2, 2, 2, 3, 3, 4, 4][random.below(8) as usize];
        let mut schema = Schema {
            tables: Vec::new(),
            references: Vec::new(),
            constraints: Vec::new(),
            indexes: Vec::new(),
            soft: Vec::new(),
            is_wide,
            read: Vec::new(),
            number,
            text,
        };
        for n in 0..count {
            schema.table(["a", "b", "c", "d"][n], random);
        }
        for child in 0..count {
            let many = [0, 1, 1, 1, 2, 2][random.below(6) as usize];
            let many = if child == 0 && count > 1 {
                many / 2
            } else {
                many
            };
            for n in 0..many {
                // chains and trees; a table that refers to itself; circles
                let parent = match random.below(6) {
                    0 => child,
                    1 => random.below(count as u64) as usize,
                    2 => child.saturating_sub(1),
                    _ => random.below(child.max(1) as u64) as usize,
                };
                schema.reference(child, parent, n, random);
            }
        }
        for table in 0..count {
            schema.keys(table, random);
            schema.stays(table, random);
        }
        schema
    }

    fn table(&mut self, name: &str, random: &mut Random) {
        let column = |name: &str, of, not_null| Column {
            name: name.to_owned(),
            of,
            not_null,
        };
        let mut columns = vec![column("id", Of::Number, true), column("v", Of::Text, false)];
        let mut referenced = Vec::new();
        let (mut unique, mut text) = (Vec::new(), Vec::new());
        for name in &["u", "w"][..[0, 1, 1, 2, 2][random.below(5) as usize]] {
            let n = columns.len();
            columns.push(column(name, Of::Text, random.below(3) == 0));
            text.push(n);
            match random.below(6) {
                0 | 1 => referenced.push(n),
                2..=4 => unique.push(n),
                _ => {}
            }
        }
        if random.below(4) == 0 {
            columns.push(column("r", Of::Range, random.below(3) == 0));
            let constraint = format!("exclude using gist (r with &&) {}", deferred(random));
            self.constraint(name, &constraint);
        }
        for &n in &referenced {
            self.constraint(name, &format!("unique ({})", columns[n].name));
        }
        for n in unique {
            let column = &columns[n].name;
            let constraint = match random.below(5) {
                0 => format!("exclude ({column} with =) {}", deferred(random)),
                _ => format!("unique ({column}) {}", deferred(random)),
            };
            self.constraint(name, &constraint);
        }
        if text.len() == 2 && random.below(3) == 0 {
            self.constraint(name, &format!("unique (u, w) {}", deferred(random)));
        }
        if !text.is_empty() && random.below(5) == 0 {
            self.index(name, random);
        }
        self.tables.push(TableOf {
            name: name.to_owned(),
            columns,
            referenced,
            deferrable_key: false,
            key: None,
        });
    }

    /// An index over some rows, or of an expression.
    fn index(&mut self, table: &str, random: &mut Random) {
        if self.text == "letter" {
            return;
        }
        let (elements, list, condition) = *random.of(&[
            ("upper(u) with =", "upper(u)", ""),
            ("u with =", "u", "v is not null"),
            ("u with =, v with =", "u, v", ""),
            ("upper(u) with =, v with =", "upper(u), v", "u <> 'e'"),
        ]);
        let [at_source, at_destination] = match condition {
            "" => [String::new(), String::new()],
            _ => [format!("where ({condition})"), format!("where {condition}")],
        };
        self.indexes.push((
            format!("alter table {table} add exclude ({elements}) {at_source} {BOTH}"),
            format!("create unique index on {table} ({list}) {at_destination}"),
        ));
    }

    fn reference(&mut self, child: usize, parent: usize, n: u64, random: &mut Random) {
        let target = match self.tables[parent].referenced.first() {
            Some(&column) if random.below(2) == 0 => column,
            _ => 0,
        };
        let target = self.tables[parent].columns[target].clone();
        let parent_name = self.tables[parent].name.clone();
        let [on_delete, on_update] = ["delete", "update"].map(|what| match self.is_wide {
            true if random.below(9) == 0 => format!("on {what} set default"),
            _ => action(what, random),
        });
        let second = self.second(parent, &target, random);
        let table = &mut self.tables[child];
        let sets_null = on_delete.contains("null") || on_update.contains("null");
        let column = format!("{parent_name}{}", if n == 0 { "" } else { "2" });
        if table.columns.iter().any(|c| c.name == column) {
            return;
        }
        table.columns.push(Column {
            name: column.clone(),
            of: target.of,
            not_null: !sets_null && child != parent && random.below(3) == 0,
        });
        let name = table.name.clone();
        let deferred = deferred(random);
        let (more, to) = match second {
            Some((second, full)) => {
                let more = format!("{column}_{second}");
                table.columns.push(Column {
                    name: more.clone(),
                    of: Of::Text,
                    not_null: false,
                });
                (
                    format!(", {more}"),
                    format!("{}, {second}) {full}", target.name),
                )
            }
            None => (String::new(), format!("{})", target.name)),
        };
        self.constraint(
            &name,
            &format!(
                "foreign key ({column}{more}) references {parent_name} ({to} {on_delete} {on_update} {deferred}"
            ),
        );
        if random.below(8) == 0 {
            self.constraint(&name, &format!("unique ({column}) {{deferred}}"));
        }
        self.references.push(Reference {
            child,
            column,
            parent,
            target: target.name,
        });
    }

    /// A second column that a foreign key refers to, and how the foreign key takes a null.
    fn second(
        &mut self,
        parent: usize,
        target: &Column,
        random: &mut Random,
    ) -> Option<(String, &'static str)> {
        if !self.is_wide || target.name != "id" || random.below(4) > 0 {
            return None;
        }
        let table = &self.tables[parent];
        let column = table.columns.iter().find(|column| column.name == "u")?;
        let (table, column) = (table.name.clone(), column.name.clone());
        self.constraint(&table, &format!("unique (id, {column})"));
        Some((column, *random.of(&["", "", "match full"])))
    }

    /// The primary key, which is deferrable at the source here and there: of a table to which no other refers.
    fn keys(&mut self, table: usize, random: &mut Random) {
        let is_parent = self
            .references
            .iter()
            .any(|reference| reference.parent == table && reference.target == "id");
        let deferrable = !is_parent && random.below(4) == 0;
        self.tables[table].deferrable_key = deferrable;
        if self.is_wide && !is_parent && random.below(3) == 0 {
            let columns = &mut self.tables[table].columns;
            columns.push(Column {
                name: String::from("k"),
                of: *random.of(&[Of::Number, Of::Text]),
                not_null: true,
            });
            self.tables[table].key = Some(self.tables[table].columns.len() - 1);
        }
    }

    /// Rows that stay, marked, still have to satisfy the constraints: only where there are none but the key.
    fn stays(&mut self, table: usize, random: &mut Random) {
        let name = self.tables[table].name.clone();
        let this = format!("alter table {name} ");
        let is_constrained = self.constraints.iter().any(|sql| sql.starts_with(&this))
            || self.indexes.iter().any(|(sql, _)| sql.starts_with(&this));
        if !is_constrained && random.below(3) == 0 {
            self.indexes
                .push(("select".to_owned(), format!("{this}add gone boolean")));
            self.soft.push(name);
        }
    }

    fn constraint(&mut self, table: &str, constraint: &str) {
        self.constraints
            .push(format!("alter table {table} add {constraint}"));
    }

    /// Whether a column of a table is unique, and not deferrable at the destination.
    pub fn unique(&self, table: &str, column: &str) -> bool {
        let of = |sql: &str| {
            sql.strip_prefix(&format!("alter table {table} add unique ({column})"))
                .is_some_and(|deferred| matches!(deferred.trim(), "" | "{deferred}"))
        };
        self.constraints.iter().any(|sql| of(sql))
    }

    /// Whether a table can be partitioned by this column: it is in all that must be unique.
    pub fn can_be_partitioned(&self, table: &str, column: &str) -> bool {
        let this = format!("alter table {table} add ");
        let has = |list: &str| list.split([',', ')']).any(|name| name.trim() == column);
        let is_free = |sql: &String| match sql.strip_prefix(&this) {
            Some(constraint) if constraint.starts_with("exclude") => false,
            Some(constraint) => constraint.strip_prefix("unique (").is_none_or(has),
            None => true,
        };
        let mut indexes = self.indexes.iter();
        self.constraints.iter().all(is_free)
            && !indexes.any(|(sql, _)| sql.starts_with(&this) && sql.contains(" exclude "))
    }

    pub fn has_deferrable_key(&self) -> bool {
        self.tables.iter().any(|table| table.deferrable_key)
    }

    /// The statements that make what the two sides do not have in common, in pairs.
    pub fn indexes(&self) -> [String; 2] {
        let (source, destination): (Vec<_>, Vec<_>) = self.indexes.iter().cloned().unzip();
        [source.join("; "), destination.join("; ")]
    }

    /// The statements that make it, foreign keys last.
    pub fn ddl(&self) -> String {
        let mut ddl: Vec<String> = Vec::new();
        if self.text == "letter" {
            ddl.push(String::from(
                "create type letter as enum ('a', 'b', 'c', 'd', 'e')",
            ));
        }
        let types = (self.number, self.text);
        ddl.extend(self.tables.iter().map(|table| table.ddl(types)));
        let mut constraints = self.constraints.clone();
        constraints.sort_by_key(|constraint| constraint.contains("foreign key"));
        ddl.extend(constraints);
        ddl.join("; ")
    }
}

impl TableOf {
    fn ddl(&self, (number, text): (&str, &str)) -> String {
        let key = match (self.key, self.deferrable_key) {
            (Some(second), deferrable) => {
                let deferred = if deferrable { "{deferred}" } else { "" };
                let second = &self.columns[second].name;
                format!(", primary key (id, {second}) {deferred}")
            }
            (None, _) => String::new(),
        };
        let columns: Vec<_> = self
            .columns
            .iter()
            .map(|column| {
                let of = match column.of {
                    Of::Number => number,
                    Of::Text => text,
                    Of::Range => "int4range",
                };
                let more = match (column.name.as_str(), self.deferrable_key) {
                    ("id", _) if self.key.is_some() => " not null",
                    ("id", true) => " primary key {deferred}",
                    ("id", false) => " primary key",
                    _ if column.not_null => " not null",
                    _ => "",
                };
                format!("{} {of}{more}", column.name)
            })
            .collect();
        format!("create table {} ({}{key})", self.name, columns.join(", "))
    }
}

/// How a constraint is checked: at the source deferred, mostly.
fn deferred(random: &mut Random) -> &'static str {
    match random.below(8) {
        0 => BOTH,
        1 | 2 => "",
        _ => "{deferred}",
    }
}

fn action(what: &str, random: &mut Random) -> String {
    match random.below(7) {
        0 | 1 => format!("on {what} cascade"),
        2 => format!("on {what} set null"),
        3 => format!("on {what} restrict"),
        _ => String::new(),
    }
}
