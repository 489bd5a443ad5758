//! Names that the extension has put into its statements, and what they meant then.
//!
//! Who owns a schema may rename it and give its name to another one, without a lock on the tables inside. The server then
//! looks up the names of a kept statement anew, and would write to another table, with triggers of somebody else, as the
//! owner of the mapping. So a statement whose names have got another meaning since they were read is not planned.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::{CStr, CString};

use pgrx::pg_sys;
use pgrx::spi::{quote_identifier, quote_qualified_identifier};

use super::invalidation;

/// A schema, or a relation in it.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Name {
    schema: String,
    relation: Option<String>,
}

impl Name {
    /// What has the name now; `InvalidOid` if nothing has.
    fn meaning(&self) -> pg_sys::Oid {
        let (Ok(schema), Ok(relation)) = (
            CString::new(self.schema.as_str()),
            self.relation.as_deref().map(CString::new).transpose(),
        ) else {
            return pg_sys::InvalidOid;
        };
        // SAFETY: catalog look-ups, which copy the names.
        unsafe {
            let schema = pg_sys::get_namespace_oid(schema.as_ptr(), true);
            match relation {
                _ if schema == pg_sys::InvalidOid => schema,
                Some(relation) => pg_sys::get_relname_relid(relation.as_ptr(), schema),
                None => schema,
            }
        }
    }

    /// The name as it begins in SQL.
    fn spelled(&self) -> String {
        match &self.relation {
            Some(relation) => quote_qualified_identifier(&self.schema, relation),
            None => quote_identifier(&self.schema) + ".",
        }
    }
}

thread_local! {
    static READ: RefCell<HashMap<Name, pg_sys::Oid>> = RefCell::new(HashMap::new());
    /// The edition of the definitions in which the last call began.
    static BEGUN: Cell<u64> = const { Cell::new(0) };
    /// The edition in which the names were compared last.
    static COMPARED: Cell<u64> = const { Cell::new(0) };
    /// The names that had another meaning then, as they begin in SQL.
    static TAKEN: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Notes the name of a schema. Its first meaning in a call counts.
pub fn note_schema(schema: &str, oid: pg_sys::Oid) {
    note(schema, None, oid);
}

/// Notes the name of a relation.
pub fn note_relation(schema: &str, relation: &str, oid: pg_sys::Oid) {
    note(schema, Some(relation), oid);
}

fn note(schema: &str, relation: Option<&str>, oid: pg_sys::Oid) {
    let name = Name {
        schema: schema.to_owned(),
        relation: relation.map(str::to_owned),
    };
    READ.with_borrow_mut(|read| {
        read.entry(name).or_insert(oid);
    });
}

/// Begins a call: what was kept is made anew where a definition has changed, so that its names have the meaning of now.
pub fn begin() {
    let edition = invalidation::edition();
    COMPARED.set(edition);
    let taken = TAKEN.take();
    if BEGUN.replace(edition) != edition || !taken.is_empty() {
        READ.with_borrow_mut(|read| read.retain(|name, oid| name.meaning() == *oid));
    }
}

/// A name in a statement, if it has got another meaning since it was read.
pub fn taken_in(statement: &CStr) -> Option<String> {
    let edition = invalidation::seen();
    if COMPARED.replace(edition) != edition {
        let names = READ.with_borrow(|read| {
            let taken = read.iter().filter(|(name, oid)| {
                let meaning = name.meaning();
                meaning != pg_sys::InvalidOid && meaning != **oid
            });
            taken.map(|(name, _)| name.spelled()).collect()
        });
        TAKEN.set(names);
    }
    TAKEN.with_borrow(|taken| {
        if taken.is_empty() {
            return None;
        }
        let statement = statement.to_string_lossy();
        let found = taken.iter().find(|name| has_name(&statement, name));
        found.map(|name| name.trim_end_matches('.').to_owned())
    })
}

/// Whether a name begins somewhere in a statement.
fn has_name(statement: &str, name: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '"');
    let mut found = statement.match_indices(name);
    found.any(|(at, _)| !statement[..at].ends_with(is_part))
}

#[cfg(test)]
mod tests {
    use super::has_name;

    #[test]
    fn a_name_is_no_part_of_another() {
        assert!(has_name("insert into app.item", "app."));
        assert!(has_name("(\"App\".item)", "\"App\"."));
        for other in [
            "insert into my_app.item",
            "myapp.item",
            "\"an\"\"App\".item",
            "apps.item",
        ] {
            assert!(
                !has_name(other, "app.") && !has_name(other, "\"App\"."),
                "{other}"
            );
        }
    }
}
