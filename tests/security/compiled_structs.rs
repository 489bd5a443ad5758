//! `src/pg/compiled.rs` reads structs of PL/pgSQL. Its numbers are those of the header of the server that the tests run on.

use std::io::Write;
use std::process::{Command, Stdio};

use support::pg_config;

/// What the library takes for granted.
const SOURCE: &str = include_str!("../../src/pg/compiled.rs");

/// The numbers of a constant; of two, the second is that of PostgreSQL 18.
fn numbers(constant: &str, server: u32) -> Vec<String> {
    let start = format!("const {constant}: [");
    let values: Vec<&str> = SOURCE
        .split(&start)
        .skip(1)
        .map(|rest| {
            let rest = rest.split_once("= [").expect("an array").1;
            rest.split_once(']').expect("the end of the array").0
        })
        .collect();
    let of = match values.as_slice() {
        [value] => value,
        [before, since] => match server < 18 {
            true => before,
            false => since,
        },
        _ => panic!("{constant}: {values:?}"),
    };
    of.split(", ").map(str::to_owned).collect()
}

#[test]
fn the_numbers_are_those_of_the_header() {
    let include = pg_config("--includedir-server");
    let server: u32 = {
        let config =
            std::fs::read_to_string(format!("{include}/pg_config.h")).expect("pg_config.h");
        let version = config
            .lines()
            .find_map(|line| line.strip_prefix("#define PG_MAJORVERSION_NUM "));
        version
            .and_then(|version| version.trim().parse().ok())
            .expect("a version")
    };
    let in_function = match server < 18 {
        true => ["fn_oid", "fn_xmin", "fn_cxt", "ndatums", "datums"],
        false => ["fn_oid", "cfunc.fn_xmin", "fn_cxt", "ndatums", "datums"],
    };
    let place = match server < 18 {
        true => "fn_tid",
        false => "cfunc.fn_tid",
    };
    let mut checks = vec![format!(
        "offsetof(PLpgSQL_function, {place}) == offsetof(PLpgSQL_function, {}) + 4",
        in_function[1]
    )];
    let mut check = |of: &str, field: &str, number: &str| {
        checks.push(format!("offsetof({of}, {field}) == {number}"));
    };
    for (field, number) in in_function.into_iter().zip(numbers("FUNCTION", server)) {
        check("PLpgSQL_function", field, &number);
    }
    for (field, number) in ["func", "ndatums"]
        .into_iter()
        .zip(numbers("STATE", server))
    {
        check("PLpgSQL_execstate", field, &number);
    }
    let [number, datatype, oid] = numbers("DATUM", server).try_into().expect("three");
    for of in ["PLpgSQL_var", "PLpgSQL_rec"] {
        check(of, "dtype", "0");
        check(of, "dno", &number);
        check(of, "datatype", &datatype);
    }
    check("PLpgSQL_type", "typoid", &oid);
    let kinds = [
        "PLPGSQL_DTYPE_VAR",
        "PLPGSQL_DTYPE_REC",
        "PLPGSQL_DTYPE_PROMISE",
    ];
    for (kind, number) in kinds.into_iter().zip(numbers("TYPED", server)) {
        checks.push(format!("{kind} == {number}"));
    }
    checks.push("sizeof(PLpgSQL_plugin) <= 16 * sizeof(void *)".to_owned());
    let asserts: String = checks
        .iter()
        .map(|check| format!("_Static_assert({check}, \"{check}\");\n"))
        .collect();
    let program = format!("#include \"postgres.h\"\n#include \"plpgsql.h\"\n{asserts}");
    let mut compiler = Command::new(std::env::var("CC").unwrap_or_else(|_| "cc".to_owned()))
        .args(["-w", "-fsyntax-only", "-x", "c", "-I", &include, "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a C compiler");
    let mut input = compiler.stdin.take().expect("piped");
    input.write_all(program.as_bytes()).expect("written");
    drop(input);
    let output = compiler.wait_with_output().expect("it ends");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
