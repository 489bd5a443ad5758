//! Keys that several rows have within a transaction: deferrable at the source.

use crate::case::Case;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let table = "create table t (id int primary key {deferred}, v text)";
    let rows = "insert into t values (1, 'old'), (2, 'two')";
    let unique = "create table t (id int primary key, e text not null unique {deferred}, v text)";
    let named = "insert into t values (1, 'a', 'old'), (2, 'b', 'two')";
    let by_key = |what: &str, transactions: &[&str]| {
        Case::new(format!("key_{what}"), table, rows, transactions)
    };
    let by_value = |what: &str, transactions: &[&str]| {
        Case::new(format!("unique_key_{what}"), unique, named, transactions).mapped(
            "t",
            ", key => '{e}'",
            "",
        )
    };
    cases.push(by_key(
        "taken_before_it_is_free",
        &["insert into t values (1, 'new'); delete from t where v = 'old'"],
    ));
    cases.push(by_key(
        "taken_then_changed",
        &[
            "insert into t values (1, 'new'); delete from t where v = 'old'",
            "update t set v = 'newer' where id = 1",
        ],
    ));
    cases.push(by_key(
        "moved_to_before_it_is_free",
        &["update t set id = 1 where id = 2; delete from t where v = 'old'"],
    ));
    cases.push(by_key(
        "moved_to_and_left",
        &[
            "update t set id = 1 where id = 2; delete from t where v = 'old'",
            "update t set id = 4 where id = 1",
        ],
    ));
    cases.push(by_key("shifted", &["update t set id = id + 1"]));
    cases.push(by_key(
        "shifted_twice",
        &["update t set id = id + 1", "update t set id = id + 1"],
    ));
    cases.push(by_key("exchanged", &["update t set id = 3 - id"]));
    // whose images differ by a bit in each of two values
    for [one, two] in [["'c', 'a'", "'e', 'c'"], ["'b', 'c'", "'e', 'b'"]] {
        cases.push(Case::new(
            format!(
                "key_exchanged_of_alike_{}",
                one.replace(['\'', ',', ' '], "")
            ),
            "create table t (id int primary key {deferred}, v text, u text)",
            format!("insert into t values (5, {one}), (1, {two})"),
            &["update t set id = 6 - id"],
        ));
    }
    cases.push(by_key(
        "exchanged_and_changed",
        &[
            "update t set id = 3 - id; update t set v = 'x' where id = 1",
            "delete from t where id = 2",
        ],
    ));
    cases.push(by_key(
        "shifted_over_a_deleted_row",
        &[
            "update t set id = id + 1; delete from t where v = 'two'",
            "insert into t values (1, 'one')",
        ],
    ));
    cases.push(by_value(
        "taken_before_it_is_free",
        &["insert into t values (3, 'a', 'new'); delete from t where v = 'old'"],
    ));
    cases.push(by_value(
        "moved_to_before_it_is_free",
        &["update t set e = 'a' where id = 2; delete from t where v = 'old'"],
    ));
    cases.push(by_value(
        "exchanged",
        &["update t set e = 'b' where id = 1; update t set e = 'a' where id = 2"],
    ));
    cases.push(by_value(
        "handed_on",
        &[
            "update t set e = 'b' where id = 1; update t set e = 'c' where id = 2",
            "update t set id = 3 where id = 1",
        ],
    ));
    // the key that is mapped has no constraint of its own at the source
    cases.push(
        Case::new(
            "replaced_under_the_mapped_key",
            "create table t (id int, e text not null, v text)",
            "insert into t values (1, 'a', 'old')",
            &[
                "delete from t where id = 1; insert into t values (2, 'a', 'new')",
                "update t set id = 3, v = 'newer' where id = 2",
            ],
        )
        .at_source("alter table t add primary key (id), add unique (e)")
        .at_destination("alter table t add primary key (e)")
        .mapped("t", ", key => '{e}'", ""),
    );
    cases
}
