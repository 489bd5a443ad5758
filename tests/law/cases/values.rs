//! Foreign keys to unique values that are no key, and rows that change more than one thing.

use crate::case::Case;

pub fn cases() -> Vec<Case> {
    let code = "create table p (id int primary key, code text {null} unique);
                create table k (id int primary key, code text {null} references p (code) {action} {deferred})";
    let mut cases = Vec::new();
    for (nullable, null) in [("", ""), ("not_null_", "not null")] {
        let ddl = code.replace("{null}", null);
        let plain = ddl.replace("{action}", "");
        cases.push(Case::new(
            format!("{nullable}code_changes"),
            &plain,
            "insert into p values (1, 'a'); insert into k values (10, 'a'), (11, 'a')",
            &["update p set code = 'b' where id = 1; update k set code = 'b'"],
        ));
        cases.push(Case::new(
            format!("{nullable}codes_exchanged"),
            &plain,
            "insert into p values (1, 'a'), (2, 'b'); insert into k values (10, 'a'), (11, 'b')",
            &[
                "update p set code = 'c' where id = 1; update p set code = 'a' where id = 2;
               update p set code = 'b' where id = 1",
            ],
        ));
        cases.push(Case::new(
            format!("{nullable}codes_exchanged_and_followed"),
            &plain,
            "insert into p values (1, 'a'), (2, 'b'); insert into k values (10, 'a')",
            &[
                "update p set code = 'c' where id = 1; update p set code = 'a' where id = 2;
               update p set code = 'b' where id = 1; update k set code = 'b' where id = 10",
            ],
        ));
        cases.push(Case::new(
            format!("{nullable}code_of_another_row"),
            &plain,
            "insert into p values (1, 'e'); insert into k values (6, 'e')",
            &["delete from p where id = 1; insert into p values (8, 'e')"],
        ));
        cases.push(Case::new(
            format!("{nullable}code_and_key_change"),
            &plain,
            "insert into p values (1, 'a'); insert into k values (10, 'a')",
            &[
                "update p set code = 'b' where id = 1; update k set code = 'b'",
                "update p set id = 2 where id = 1",
                "update k set id = 11 where id = 10",
            ],
        ));
        for (name, action) in [
            ("cascade", "on update cascade"),
            ("set_null", "on update set null"),
        ] {
            if name == "set_null" && !null.is_empty() {
                continue;
            }
            let ddl = ddl.replace("{action}", action);
            cases.push(Case::new(
                format!("{nullable}value_moves_{name}"),
                &ddl,
                "insert into p values (5, 'h'), (6, 'x')",
                &[
                    "update p set code = 'zz' where id = 5; update p set code = 'h' where id = 6",
                    "insert into k values (10, 'h')",
                ],
            ));
            cases.push(Case::new(
                format!("{nullable}value_moves_to_new_row_{name}"),
                &ddl,
                "insert into p values (5, 'h'); insert into k values (9, 'h')",
                &[
                    "update p set code = 'zz' where id = 5; insert into p values (6, 'h')",
                    "insert into k values (10, 'h')",
                ],
            ));
            cases.push(Case::new(
                format!("{nullable}value_moves_twice_{name}"),
                &ddl,
                "insert into p values (5, 'h'); insert into k values (9, 'h')",
                &[
                    "update p set code = 'i' where id = 5",
                    "update p set code = 'h' where id = 5",
                    "update k set code = 'h' where id = 9",
                ],
            ));
        }
    }
    cases.extend(ordinary());
    cases.push(Case::new(
        "two_column_reference",
        "create table p (id int primary key, a text, b text, unique (a, b));
         create table k (id int primary key, a text, b text, foreign key (a, b) references p (a, b) {deferred})",
        "insert into p values (1, 'a', 'x'), (2, 'a', 'y'); insert into k values (10, 'a', 'x')",
        &["update p set b = 'z' where id = 1; update p set b = 'x' where id = 2;
           update k set b = 'z' where id = 10; insert into k values (11, 'a', 'x')"],
    ));
    cases.push(Case::new(
        "two_column_reference_match_full",
        "create table p (id int primary key, a text, b text, unique (a, b));
         create table k (id int primary key, a text, b text,
                         foreign key (a, b) references p (a, b) match full {deferred})",
        "insert into p values (1, 'a', 'x'); insert into k values (10, 'a', 'x')",
        &[
            "update p set a = 'b' where id = 1; update k set a = 'b' where id = 10",
            "insert into k values (11, null, null)",
        ],
    ));
    cases
}

/// Nothing is deferrable, and the messages may even come in order.
fn ordinary() -> Vec<Case> {
    let ddl = "create table a (id int primary key, u text unique);
               create table b (id int primary key, a_id int references a, u text unique)";
    let rows =
        "insert into a values (2, 'p'), (4, 'r'); insert into b values (10, 2, 'q'), (12, 4, 's')";
    let deferrable = ddl.replace("references a", "references a {deferred}");
    vec![
        Case::new(
            "key_then_newer_change",
            ddl,
            rows,
            &[
                "update b set a_id = null where id = 10; update a set id = 3 where id = 2;
               update b set a_id = 3 where id = 10",
                "update a set u = 'z' where id = 3",
            ],
        ),
        Case::new(
            "deferred_key_then_newer_change",
            &deferrable,
            rows,
            &[
                "update a set id = 3 where id = 2; update b set a_id = 3 where id = 10",
                "update a set u = 'z' where id = 3",
            ],
        ),
        Case::new(
            "key_then_value_of_another",
            &deferrable,
            rows,
            &[
                "update a set id = 3 where id = 2; update b set a_id = 3, u = 't' where id = 10",
                "update a set u = 'z' where id = 3",
                "insert into a values (5, 'p')",
            ],
        ),
        Case::new(
            "value_of_a_row_that_left",
            ddl,
            rows,
            &[
                "delete from b where id = 10; delete from a where id = 2",
                "insert into a values (6, 'p'); insert into b values (16, 6, 'q')",
            ],
        ),
        Case::new(
            "row_comes_back",
            ddl,
            rows,
            &[
                "delete from b where id = 10; delete from a where id = 2",
                "insert into a values (2, 'p2')",
                "insert into b values (10, 2, 'q2')",
            ],
        ),
    ]
}
