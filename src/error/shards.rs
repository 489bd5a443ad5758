//! Errors of Citus name a shard and its constraints: `item_102008`, `item_pkey_102008`. Their readers look for the table.
//!
//! An error of another node has no fields for names: they are taken from its message.

#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::SqlError;
use super::sqlstate::{
    CHECK_VIOLATION, EXCLUSION_VIOLATION, FOREIGN_KEY_VIOLATION, NOT_NULL_VIOLATION,
    RESTRICT_VIOLATION, UNIQUE_VIOLATION,
};

/// A table whose rows are in shards.
#[derive(Debug)]
pub struct Sharded {
    pub schema: String,
    pub name: String,
    /// Its name, and those of its constraints and indexes, as far as they are too long for a number at their end.
    pub long: Vec<String>,
}

thread_local! {
    static SHARDS: RefCell<HashMap<u64, Rc<Sharded>>> = RefCell::new(HashMap::new());
}

/// Takes note of the shards of a table.
pub fn know(table: Sharded, shards: impl Iterator<Item = u64>) {
    let table = Rc::new(table);
    SHARDS.with_borrow_mut(|known| known.extend(shards.map(|shard| (shard, Rc::clone(&table)))));
}

/// The error with the names of tables and their constraints, instead of those of shards.
pub fn with_table_names(error: SqlError) -> SqlError {
    SHARDS.with_borrow(|shards| match shards.is_empty() {
        true => error,
        false => Names { shards }.translate(error),
    })
}

/// What Citus writes into CONTEXT when another node raises the error.
const REMOTE: &str = "while executing command on ";

/// The marks around a name, in the languages of PostgreSQL's messages.
const QUOTES: &[char] = &['"', '«', '»', '„', '“', '”'];

struct Names<'s> {
    shards: &'s HashMap<u64, Rc<Sharded>>,
}

impl Names<'_> {
    fn translate(&self, mut error: SqlError) -> SqlError {
        let remote = error.context.as_ref().is_some_and(|c| c.contains(REMOTE));
        if remote && error.table.is_none() && error.constraint.is_none() {
            self.read_fields(&mut error);
        } else if let Some((name, table)) = error.table.as_deref().and_then(|t| self.plain(t)) {
            error.schema = Some(table.schema.clone());
            error.table = Some(name);
        }
        for text in [&mut error.constraint].into_iter().flatten() {
            if let Some((name, _)) = self.plain(text) {
                *text = name;
            }
        }
        error.message = self.reworded(&error.message);
        for text in [&mut error.detail, &mut error.hint].into_iter().flatten() {
            *text = self.reworded(text);
        }
        error
    }

    /// The name without the number of a shard, and its table.
    fn plain(&self, name: &str) -> Option<(String, &Sharded)> {
        let (name, number) = name.rsplit_once('_')?;
        let table = self.shards.get(&number.parse().ok()?)?;
        // Of a long name, Citus keeps the beginning, and a hash of eight digits.
        let long = name.rsplit_once('_').and_then(|(start, hash)| {
            let is_hash = hash.len() == 8 && hash.bytes().all(|b| b.is_ascii_hexdigit());
            table
                .long
                .iter()
                .find(|long| is_hash && long.starts_with(start))
        });
        Some((long.cloned().unwrap_or_else(|| name.to_owned()), table))
    }

    /// Takes the fields of a constraint's error from its message, where names are quoted.
    fn read_fields(&self, error: &mut SqlError) {
        let quoted: Vec<&str> = error
            .message
            .split(QUOTES)
            .skip(1)
            .step_by(2)
            .map(str::trim)
            .collect();
        let (first, second) = (quoted.first().copied(), quoted.get(1).copied());
        let (table, column, constraint) = match error.code {
            UNIQUE_VIOLATION | EXCLUSION_VIOLATION => (first, None, first),
            FOREIGN_KEY_VIOLATION | RESTRICT_VIOLATION => (second, None, second),
            CHECK_VIOLATION => (first, None, second),
            NOT_NULL_VIOLATION => (second, first, None),
            _ => return,
        };
        let Some((_, table)) = table.and_then(|name| self.plain(name)) else {
            return;
        };
        let (schema, name) = (table.schema.clone(), table.name.clone());
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let (column, constraint) = (owned(column), owned(constraint));
        (error.schema, error.table) = (Some(schema), Some(name));
        (error.column, error.constraint) = (column, constraint);
    }

    fn reworded(&self, text: &str) -> String {
        let mut all = String::with_capacity(text.len());
        for part in text.split_inclusive(QUOTES) {
            let name = part.trim_end_matches(QUOTES).trim();
            match self.plain(name) {
                Some((plain, _)) => all += &part.replacen(name, &plain, 1),
                None => all += part,
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> HashMap<u64, Rc<Sharded>> {
        let table = |name: &str, long: &[&str]| {
            Rc::new(Sharded {
                schema: "shop".into(),
                name: name.into(),
                long: long.iter().map(|name| (*name).to_owned()).collect(),
            })
        };
        let long = "orders_of_all_the_customers_that_we_have_ever_had_customer_fkey";
        HashMap::from([
            (102_008, table("customer", &[])),
            (102_009, table("orders", &[long])),
        ])
    }

    fn translated(error: SqlError) -> SqlError {
        Names { shards: &known() }.translate(error)
    }

    fn remote(code: &str, message: &str) -> SqlError {
        SqlError {
            context: Some("while executing command on localhost:5432".into()),
            ..SqlError::new(code, message)
        }
    }

    fn fields(error: &SqlError) -> [Option<&str>; 4] {
        let SqlError {
            schema,
            table,
            column,
            constraint,
            ..
        } = error;
        [schema, table, column, constraint].map(|field| field.as_deref())
    }

    #[test]
    fn fields_lose_the_number() {
        let error = translated(SqlError {
            schema: Some("shop".into()),
            table: Some("orders_102009".into()),
            constraint: Some("orders_customer_102009".into()),
            detail: Some("Key (customer)=(1) is not present in table \"customer_102008\".".into()),
            ..SqlError::new(
                "23503",
                "insert or update on table \"orders_102009\" violates foreign key constraint \"orders_customer_102009\"",
            )
        });
        let wanted = [Some("shop"), Some("orders"), None, Some("orders_customer")];
        assert_eq!(fields(&error), wanted);
        assert_eq!(
            error.message,
            "insert or update on table \"orders\" violates foreign key constraint \"orders_customer\""
        );
        let detail = "Key (customer)=(1) is not present in table \"customer\".";
        assert_eq!(error.detail.as_deref(), Some(detail));
    }

    #[test]
    fn messages_of_other_nodes_are_read() {
        let cases = [
            (
                "23505",
                "duplicate key value violates unique constraint \"customer_pkey_102008\"",
                [Some("shop"), Some("customer"), None, Some("customer_pkey")],
            ),
            (
                "23503",
                "update or delete on table \"customer_102008\" violates foreign key constraint \"orders_customer_102009\" on table \"orders_102009\"",
                [Some("shop"), Some("orders"), None, Some("orders_customer")],
            ),
            (
                "23514",
                "new row for relation \"customer_102008\" violates check constraint \"positive\"",
                [Some("shop"), Some("customer"), None, Some("positive")],
            ),
            (
                "23502",
                "null value in column \"name\" of relation \"customer_102008\" violates not-null constraint",
                [Some("shop"), Some("customer"), Some("name"), None],
            ),
            (
                "23505",
                "la valeur d'une clé dupliquée rompt la contrainte unique « customer_pkey_102008 »",
                [Some("shop"), Some("customer"), None, Some("customer_pkey")],
            ),
            ("22012", "division by zero in \"x_102008\"", [None; 4]),
            ("23505", "duplicate key value violates \"x_7\"", [None; 4]),
        ];
        for (code, message, wanted) in cases {
            assert_eq!(
                fields(&translated(remote(code, message))),
                wanted,
                "{message}"
            );
        }
    }

    #[test]
    fn long_names_are_found_by_their_beginning() {
        let message = "insert or update on table \"orders_102009\" violates foreign key constraint \
                       \"orders_of_all_the_customers_that_we_have_ev_0a1b2c3d_102009\"";
        let error = translated(remote("23503", message));
        let long = "orders_of_all_the_customers_that_we_have_ever_had_customer_fkey";
        assert_eq!(error.constraint.as_deref(), Some(long));
        assert!(error.message.ends_with(&format!("\"{long}\"")));
    }

    #[test]
    fn other_names_stay() {
        let error = SqlError {
            schema: Some("shop".into()),
            table: Some("orders_7".into()),
            constraint: Some("x_y".into()),
            ..SqlError::new("23505", "no \"102009\" or \"orders_7\", but \"_\"")
        };
        assert_eq!(translated(error.clone()), error);
    }
}
