//! Rows keep referring to a value that goes from one row to another, and a foreign key acts when a row loses the value.

use super::super::case::Case;

/// What foreign keys do.
const ACTIONS: [&str; 6] = [
    "on delete restrict",
    "on update restrict",
    "on delete restrict on update restrict",
    "on delete cascade",
    "on delete set null on update restrict",
    "on delete cascade on update cascade",
];

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (n, action) in ACTIONS.into_iter().enumerate() {
        // the rows exchange their keys, so their values come to other keys; the referring rows do something
        for (i, (children, transaction)) in [
            ("stay", "select"),
            ("change", "update b set x = 'new'"),
            (
                "refer_elsewhere",
                "update b set a = case a when 'd' then 'e' else 'd' end",
            ),
            ("move", "update b set id = id + 10"),
            ("go", "delete from b where id = 1"),
            ("come", "insert into b values (3, 'd', 'more')"),
        ]
        .into_iter()
        .enumerate()
        {
            let null = ["null", "not null"][(n + i) % 2];
            cases.push(Case::new(
                format!("exchanged_rows_whose_referring_rows_{children}_{n}"),
                format!(
                    "create table a (id int primary key {{deferred}}, u text unique);
                     create table b (id int primary key, a text {null} references a (u) {action}, x text)"
                ),
                "insert into a values (5, 'd'), (4, 'e'); insert into b values (1, 'd', 'x'), (2, 'e', 'y')",
                &[&format!("update a set id = 9 - id; {transaction}")],
            ));
        }
        // three rows exchange their keys
        cases.push(Case::new(
            format!("three_rows_exchange_keys_and_rows_refer_to_them_{n}"),
            format!(
                "create table a (id uuid primary key {{deferred}}, u text unique, v int unique, x text);
                 create table b (id int primary key, a text not null references a (u) {action})"
            ),
            "insert into a select ('00000000-0000-0000-0000-00000000000' || i)::uuid, 'u' || i, i, i from generate_series(1, 3) i;
             insert into b values (1, 'u1'), (2, 'u3')",
            &["update a set id = ('00000000-0000-0000-0000-00000000000' || v % 3 + 1)::uuid"],
        ));
        // a row that refers to itself moves to the key of a deleted row to which rows refer
        for null in ["null", "not null"] {
            cases.push(
                Case::new(
                    format!("row_that_refers_to_itself_moves_to_a_key_{n}_{}", null.replace(' ', "_")),
                    format!(
                        "create table a (id int primary key, u text unique, a text {null} references a (u) {action});
                         create table b (id int primary key, a int references a (id) on delete restrict)"
                    ),
                    "insert into a values (3, 'c', 'c'), (4, 'e', 'e')",
                    &["delete from a where id = 4", "update a set id = 4 where id = 3"],
                )
                .delivered("[m0 m1]"),
            );
        }
        // the row that has the key goes later, and nothing else comes after it
        cases.push(
            Case::new(
                format!("row_comes_to_the_key_of_a_row_whose_delete_is_late_{n}"),
                format!(
                    "create table a (id int primary key, u text unique);
                     create table b (id int primary key, a text not null references a (u) {action})"
                ),
                "insert into a values (1, 'd')",
                &[
                    "delete from a where id = 1; insert into a values (5, 'b')",
                    "update a set id = 1; insert into b values (3, 'b')",
                ],
            )
            .delivered("[m1] [m2 m3] [m0]"),
        );
        // rows that refer to rows of their own table
        cases.push(Case::new(
            format!("exchanged_rows_refer_to_one_of_them_{n}"),
            format!(
                "create table a (id int primary key {{deferred}}, u text unique,
                                 a text references a (u) {action})"
            ),
            "insert into a values (4, 'a', 'a'), (2, 'e', 'a')",
            &["update a set id = 6 - id"],
        ));
        // several columns
        cases.push(Case::new(
            format!("exchanged_rows_with_values_of_two_columns_{n}"),
            format!(
                "create table a (id int primary key {{deferred}}, u text, v int not null, unique (u, v));
                 create table b (id int primary key, w int not null, a text,
                                 foreign key (w, a) references a (v, u) {action})"
            ),
            "insert into a values (4, 'a', 1), (2, 'e', 2); insert into b values (1, 1, 'a'), (2, 2, 'e'), (3, 1, null)",
            &["update a set id = 6 - id"],
        ));
        // a row goes, and another row gets its value; the rows refer to each other
        cases.push(
            Case::new(
                format!("row_gets_the_value_of_a_row_that_refers_to_it_{n}"),
                format!(
                    "create table a (id int primary key, u text unique, a text references a (u) {action} {{deferred}})"
                ),
                "",
                &[
                    "insert into a values (4, 'e', 'b'); delete from a where id = 4",
                    "insert into a values (1, 'b', 'e'); update a set u = 'e' where u = 'b'",
                ],
            )
            .delivered("[m0 m2] [m1 m3]"),
        );
    }
    // the referring row came before, by a call of its own
    for action in [
        "on update restrict",
        "on delete restrict",
        "on delete cascade",
    ] {
        cases.push(
            Case::new(
                format!("row_gives_its_value_while_a_row_refers_to_it_{}", action.replace(' ', "_")),
                format!(
                    "create table a (id int primary key, w text unique);
                     create table b (id int primary key, a text references a (w) {action},
                                     a2 int not null references a (id) on delete restrict on update restrict)"
                ),
                "insert into a values (1, 'b')",
                &[
                    "delete from a where id = 1",
                    "insert into a values (2, 'b'); insert into a values (1, 'e'); insert into b values (3, 'b', 1)",
                ],
            )
            .delivered("[m0 m1 m3] [m2]"),
        );
    }
    // the rows' keys move by one, and the values that foreign keys act on stay with their rows
    for (key, word) in [("int", "text"), ("numeric", "varchar(2)")] {
        cases.push(
            Case::new(
                format!("keys_shift_below_values_that_foreign_keys_act_on_{key}"),
                format!(
                    "create table a (id {key} primary key, u {word} unique);
                     create table b (id int primary key, a {word} not null references a (u) on delete restrict);
                     create table c (id int primary key, a {word} references a (u) on update cascade)"
                ),
                "insert into a values (2, 'b'), (1, 'c'); insert into b values (2, 'c'); insert into c values (3, 'b')",
                &["update a set id = id + 1"],
            )
            .delivered("[m0 m1]"),
        );
    }
    // a row comes to a key before the row there is known to leave it
    for (key, word) in [("int", "text"), ("numeric", "varchar(2)")] {
        cases.push(
            Case::new(
                format!("keys_shift_before_the_row_there_leaves_{key}"),
                format!(
                    "create table a (id {key} primary key, u {word} unique);
                     create table b (id int primary key,
                                     a {word} not null references a (u) on delete restrict on update cascade)"
                ),
                "insert into a values (2, 'b'), (3, 'e')",
                &["update a set id = 5 where id = 3", "update a set id = id + 1"],
            )
            .delivered("[m1] [m0 m2]"),
        );
    }
    // a row comes to the key of the row that it refers to
    for acts in [
        "on delete cascade on update restrict",
        "on delete cascade",
        "on delete set null",
        "on delete set null on update cascade",
        "on delete restrict on update cascade",
        "",
    ] {
        let name = acts.replace("on ", "").replace(' ', "_");
        cases.push(
            Case::new(
                format!("keys_shift_to_the_row_referred_to_{name}"),
                format!(
                    "create table a (id int primary key, u text unique, a text references a (u) {acts})"
                ),
                "insert into a values (4, 'c', null), (5, 'a', 'c')",
                &["update a set id = id - 1"],
            )
            .delivered("[m1] [m0]"),
        );
    }
    // what was written without references is not tried again by the graph from before
    cases.push(
        Case::new(
            "rows_written_without_references_are_done",
            "create table b (id int primary key, u text unique,
                             b int references b on delete set default on update cascade {deferred},
                             b2 text references b (u) on update cascade {deferred});
             create table c (id int primary key, b int references b on update cascade {deferred})",
            "",
            &[
                "insert into b values (2, 'b', 2, 'a'), (1, 'a', 2, 'a')",
                "update b set id = id + 1; insert into c values (4, 3)",
                "update b set id = 5 where id = 3; update b set id = 6 - id; insert into b values (3, null, 4, 'a');
               update c set id = id + 1",
            ],
        )
        .delivered("[m0 m1 m2 m3 m4 m5 m6 m7 m8 m10 m14 m15 m16 m17] [m9 m11 m12 m13]"),
    );
    cases
}
