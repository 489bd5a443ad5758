//! The query that computes the SQL of a mapping's columns and its filter. Pure text.

#![forbid(unsafe_code)]

use std::fmt::Write;

/// An expression of a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expression {
    /// As the mapping has it.
    pub sql: String,
    /// The type of the key column that the value is for: key bytes are made of values of the column's own type. A key is
    /// needed even if the filter refuses the message, to delete the row.
    pub key_type: Option<String>,
}

impl Expression {
    /// The expression on lines of its own, so that a comment at its end is harmless.
    fn spelled(&self) -> String {
        match &self.key_type {
            Some(of) => format!("(\n(\n{}\n)::{of}\n)", self.sql),
            None => format!("(\n{}\n)", self.sql),
        }
    }
}

/// Selects the values of SQL column specs, and last the filter's, for each row of (number, record, changes,
/// metadata, action). The filter is computed first, so that no expression fails for a message that it refuses.
pub fn project(expressions: &[Expression], filter: Option<&str>) -> String {
    let mut sql = String::from("select b.sequin_n");
    for expression in expressions {
        let spelled = expression.spelled();
        if expression.key_type.is_some() || filter.is_none() {
            write!(sql, ", {spelled}").expect("a String takes all");
        } else {
            write!(sql, ", case when b.sequin_taken then {spelled} end")
                .expect("a String takes all");
        }
    }
    let batch = "sequin_internal.batch() b(sequin_n integer, record pg_catalog.jsonb, changes \
                 pg_catalog.jsonb, metadata pg_catalog.jsonb, action pg_catalog.text)";
    match filter {
        None => sql + " from " + batch,
        Some(filter) => {
            sql + ", b.sequin_taken from (select b.*, (\n"
                + filter
                + "\n) as sequin_taken from "
                + batch
                + " offset 0) b"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_cannot_swallow_the_rest() {
        let expression = |sql: &str, key_type: Option<&str>| Expression {
            sql: sql.into(),
            key_type: key_type.map(str::to_owned),
        };
        let expressions = [
            expression("1 -- one", Some("integer")),
            expression("2", None),
        ];
        let sql = project(&expressions, None);
        assert!(
            sql.contains("(\n(\n1 -- one\n)::integer\n), (\n2\n) from sequin_internal.batch()"),
            "{sql}"
        );
        let sql = project(&expressions, Some("true -- yes"));
        assert!(
            sql.contains(
                "(\n(\n1 -- one\n)::integer\n), case when b.sequin_taken then (\n2\n) end"
            ),
            "{sql}"
        );
        assert!(sql.contains("(\ntrue -- yes\n) as sequin_taken"), "{sql}");
    }
}
