//! Asks the server's own parser about the SQL in a mapping. Nothing is run.

use std::ffi::{CString, c_char, c_int};

use pgrx::pg_sys;

use super::trap::trap;
use crate::error::{SqlError, sqlstate};

// Declared again without pgrx's guard, because an error leaves these functions by a jump, which `trap`
// catches.
unsafe extern "C-unwind" {
    #[link_name = "raw_parser"]
    fn raw_raw_parser(text: *const c_char, mode: pg_sys::RawParseMode::Type) -> *mut pg_sys::List;

    #[link_name = "parse_analyze_fixedparams"]
    fn raw_parse_analyze(
        tree: *mut pg_sys::RawStmt,
        text: *const c_char,
        types: *const pg_sys::Oid,
        count: c_int,
        environment: *mut pg_sys::QueryEnvironment,
    ) -> *mut pg_sys::Query;
}

/// Properties of a statement, from its analysis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statement {
    /// How many columns the statement returns.
    pub columns: usize,
    /// Whether the statement's own level has aggregates.
    pub aggregates: bool,
    /// Whether the statement's own level has window functions.
    pub windows: bool,
    /// Whether a column of the statement returns a set.
    pub sets: bool,
}

/// Whether `text` is the target list of a `SELECT` with one entry and nothing else: no comma, no
/// `FROM`, no second statement, no alias. An error of the parser is returned as it is.
pub fn is_one_target(text: &str) -> Result<bool, SqlError> {
    let statements = parse(&format!("SELECT\n{text}\n"))?;
    let Some(statement) = only(statements) else {
        return Ok(false);
    };
    // SAFETY: raw_parser returns a list of RawStmt. The tag of a node gives its type. Every field that is
    // read here is a pointer, null or to a list.
    unsafe {
        let node = (*statement.cast::<pg_sys::RawStmt>()).stmt;
        if (*node).type_ != pg_sys::NodeTag::T_SelectStmt {
            return Ok(false);
        }
        let select = &*node.cast::<pg_sys::SelectStmt>();
        let bare = select.op == pg_sys::SetOperation::SETOP_NONE
            && select.distinctClause.is_null()
            && select.intoClause.is_null()
            && select.fromClause.is_null()
            && select.whereClause.is_null()
            && select.groupClause.is_null()
            && select.havingClause.is_null()
            && select.windowClause.is_null()
            && select.valuesLists.is_null()
            && select.sortClause.is_null()
            && select.limitOffset.is_null()
            && select.limitCount.is_null()
            && select.lockingClause.is_null()
            && select.withClause.is_null();
        let Some(target) = only(select.targetList).filter(|_| bare) else {
            return Ok(false);
        };
        Ok((*target.cast::<pg_sys::ResTarget>()).name.is_null())
    }
}

/// Parses and analyses one statement without parameters. It opens the relations that the statement
/// names, so an error must be followed by the end of the surrounding subtransaction.
pub fn analyse(text: &str) -> Result<Statement, SqlError> {
    let statements = parse(text)?;
    let Some(tree) = only(statements) else {
        return Err(SqlError::new(
            sqlstate::SYNTAX_ERROR,
            "there is more than one statement",
        ));
    };
    let text = nul_terminated(text)?;
    let (tree, text) = (tree.cast::<pg_sys::RawStmt>(), text.as_ptr());
    // SAFETY: the parser made the tree from this text. Only the C function runs inside.
    unsafe {
        let query =
            trap(|| raw_parse_analyze(tree, text, std::ptr::null(), 0, std::ptr::null_mut()))?;
        Ok(Statement {
            columns: length((*query).targetList),
            aggregates: (*query).hasAggs,
            windows: (*query).hasWindowFuncs,
            sets: (*query).hasTargetSRFs,
        })
    }
}

/// Runs a `GRANT` on functions. Event triggers are not fired: they may name tables without a schema, and would find those
/// that the caller has made in `pg_temp`, whose triggers would run with the rights of the role that the backend acts as.
pub fn grant(text: &str) -> Result<(), SqlError> {
    let statement = only(parse(text)?).expect("one statement");
    // SAFETY: the parser made the tree. The functions of the server raise errors by themselves.
    unsafe {
        let node = (*statement.cast::<pg_sys::RawStmt>()).stmt;
        assert_eq!((*node).type_, pg_sys::NodeTag::T_GrantStmt, "{text}");
        pg_sys::PreventCommandIfReadOnly(c"GRANT".as_ptr());
        pg_sys::ExecuteGrantStmt(node.cast());
        pg_sys::CommandCounterIncrement();
    }
    Ok(())
}

fn parse(text: &str) -> Result<*mut pg_sys::List, SqlError> {
    let text = nul_terminated(text)?;
    let text = text.as_ptr();
    // SAFETY: the text outlives the call, and only the C function runs inside.
    unsafe { trap(|| raw_raw_parser(text, pg_sys::RawParseMode::RAW_PARSE_DEFAULT)) }
}

fn nul_terminated(text: &str) -> Result<CString, SqlError> {
    CString::new(text).map_err(|_| {
        SqlError::new(
            sqlstate::CHARACTER_NOT_IN_REPERTOIRE,
            "SQL text holds a NUL",
        )
    })
}

fn length(list: *mut pg_sys::List) -> usize {
    // SAFETY: null is the empty list; any other list belongs to the server.
    unsafe { list.as_ref() }.map_or(0, |list| list.length as usize)
}

/// The only element of a list of pointers.
fn only(list: *mut pg_sys::List) -> Option<*mut std::ffi::c_void> {
    // SAFETY: a list of length one has one cell, and the cells of the parser's lists hold pointers.
    (length(list) == 1).then(|| unsafe { (*(*list).elements).ptr_value })
}
