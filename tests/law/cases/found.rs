//! What random sources have found: each is as small as it could be made.

use crate::case::Case;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let value = "create table a (id int primary key, w text unique);
                 create table b (id int primary key, a text references a (w) {action} {deferred})";
    for (name, action) in [
        ("no_action", ""),
        ("cascade", "on delete cascade on update cascade"),
        ("set_null", "on delete set null on update set null"),
        ("restrict", "on delete restrict on update restrict"),
    ] {
        let ddl = value.replace("{action}", action);
        cases.push(Case::new(
            format!("key_moves_below_a_referenced_value_{name}"),
            &ddl,
            "insert into a values (2, 'b'); insert into b values (2, 'b')",
            &["update a set id = 3 where id = 2"],
        ));
        cases.push(Case::new(
            format!("key_moves_and_a_child_comes_{name}"),
            &ddl,
            "",
            &[
                "insert into a values (1, 'e'); insert into b values (1, 'e')",
                "update a set id = id + 1",
            ],
        ));
    }
    let to_itself =
        "create table a (id int primary key, w text unique, a text references a (w) {deferred})";
    cases.push(Case::new(
        "keys_exchanged_below_referenced_values",
        to_itself,
        "insert into a values (5, 'c', 'c'), (1, 'd', 'c')",
        &[
            "update a set id = 9 where id = 5; update a set id = 6 - id where id = 1;
           update a set id = 1 where id = 9",
        ],
    ));
    cases.push(Case::new(
        "row_that_refers_to_itself_moves",
        to_itself,
        "insert into a values (5, 'e', 'e')",
        &["update a set id = 6 - id; insert into a values (4, 'c', 'e')"],
    ));
    cases.push(Case::new(
        "key_takes_anothers_value",
        to_itself,
        "insert into a values (1, 'a', 'a')",
        &[
            "insert into a values (5, 'e', 'a')",
            "update a set id = id - 1 where id > 4",
            "update a set id = 5 where id = 1; update a set id = 2 where id = 4",
        ],
    ));
    cases.push(Case::new(
        "rows_refer_to_each_other_by_value",
        "create table a (id int primary key, w text unique, a text references a (w) {deferred},
                         a2 text references a (w) {deferred})",
        "",
        &["insert into a values (5, 'c', 'd', null), (1, 'd', 'd', 'c')"],
    ));
    cases.push(Case::new(
        "excluded_row_that_refers_to_itself_moves",
        "create table a (id int primary key, r int4range, a int references a on update cascade,
                         exclude using gist (r with &&))",
        "",
        &[
            "insert into a values (4, '[4,7)', 4)",
            "update a set id = id + 1",
        ],
    ));
    // what was never seen between transactions: the row has left, or found another parent, when the last message came
    cases.push(Case::new(
        "row_that_never_had_a_parent_leaves",
        "create table a (id int primary key, v text, a int references a {deferred})",
        "",
        &[
            "insert into a values (5, null, 2); update a set v = 'b' where id = 5;
           update a set id = 6 where id = 5; delete from a where id = 6",
        ],
    ));
    cases.push(Case::new(
        "row_that_changed_its_missing_parent_leaves",
        "create table a (id int primary key, b int, a int references a {deferred})",
        "",
        &[
            "insert into a values (5, 5, 4); update a set a = 2, b = 1 where id = 5;
           update a set id = 4 where id = 5; delete from a where id = 4",
        ],
    ));
    cases.push(Case::new(
        "excluded_parent_moves_and_cascades",
        "create table a (id int primary key, u text, exclude (u with =));
         create table b (id int primary key, a int references a on delete cascade {deferred})",
        "insert into a values (1, 'd'); insert into b values (1, 1)",
        &["update b set a = 5 where a = 1; update a set id = 5 where id = 1"],
    ));
    for (name, action) in [
        ("cascade", "on update cascade"),
        ("set_null", "on update set null"),
    ] {
        cases.push(Case::new(
            format!("excluded_parent_moves_{name}"),
            format!(
                "create table a (id int primary key, r int4range, exclude using gist (r with &&));
                 create table d (id int primary key, a int references a {action})"
            ),
            "insert into a values (5, '[1,2)'); insert into d values (3, 5)",
            &["update a set id = 6 - id"],
        ));
        cases.push(Case::new(
            format!("excluded_row_moves_below_itself_{name}"),
            format!(
                "create table b (id int primary key, r int4range, b int references b {action},
                                 exclude using gist (r with &&))"
            ),
            "insert into b values (3, '[4,7)', 3)",
            &["update b set id = 4 where id = 3"],
        ));
    }
    cases.push(Case::new(
        "child_comes_and_its_parent_is_replaced",
        "create table a (id int primary key, w text unique {deferred});
         create table b (id int primary key, a int references a {deferred})",
        "",
        &[
            "insert into b values (5, 3); insert into a values (3, 'b'), (2, 'b');
           update b set a = 2 where a = 3; delete from a where id = 3",
        ],
    ));
    cases.push(Case::new(
        "child_comes_and_the_key_of_its_value_moves",
        to_itself,
        "insert into a values (4, 'b', null)",
        &["insert into a values (2, 'd', 'b'); update a set id = 3 where id = 4"],
    ));
    // two unique values besides the key, or a value that is excluded: no single constraint is in the way
    let two = "create table a (id int primary key, u text unique, w text unique, a int references a {action});
               create table c (id int primary key, a int references a {action})";
    for (name, action) in [
        ("cascade", "on update cascade"),
        ("set_null", "on update set null"),
    ] {
        let ddl = two.replace("{action}", action);
        cases.push(Case::new(
            format!("row_with_two_values_moves_{name}"),
            &ddl,
            "insert into a values (5, 'b', 'd', null); insert into c values (1, 5)",
            &["update a set id = id + 1"],
        ));
        cases.push(Case::new(
            format!("row_with_two_values_moves_below_itself_{name}"),
            &ddl,
            "insert into a values (2, 'c', 'a', 2)",
            &["update a set id = 6 - id"],
        ));
        cases.push(Case::new(
            format!("row_moves_twice_{name}"),
            &ddl,
            "insert into a values (5, null, 'd', null); insert into c values (1, 5)",
            &[
                "update a set id = 2 where id = 5",
                "update a set id = 3 where id = 2",
            ],
        ));
    }
    cases.push(Case::new(
        "two_actions_on_the_same_key",
        "create table a (id int primary key, u text unique, a int references a on update set null);
         create table b (id int primary key, a int references a on update cascade)",
        "insert into a values (2, 'd', 2); insert into b values (3, 2)",
        &["update a set id = id + 1"],
    ));
    cases.push(Case::new(
        "all_leave_though_actions_would_reach_them",
        "create table a (id int primary key, a int references a on delete set null {deferred});
         create table b (id int primary key, a int not null references a on delete cascade)",
        "insert into a values (2, 2), (5, 2); insert into b values (2, 2)",
        &[
            "update a set a = 5 where id = 2",
            "delete from a where id >= 2",
        ],
    ));
    cases.push(Case::new(
        "only_child_moves_below_itself",
        "create table a (id int primary key, w text unique, a int unique references a {deferred})",
        "insert into a values (4, 'c', 4)",
        &["update a set id = 1 where id = 4; update a set a = 1 where a = 4"],
    ));
    for (name, action) in [
        ("cascade", "on update cascade"),
        ("set_null", "on update set null"),
    ] {
        // in order, in one call: the new row must not follow the value of the row that had it before
        cases.push(Case::new(
            format!("value_of_a_row_made_anew_{name}"),
            format!(
                "create table a (id int primary key, u text unique, a text references a (u) {action})"
            ),
            "insert into a values (1, 'a', 'a')",
            &[
                "delete from a where id = 1",
                "insert into a values (1, 'e', null)",
                "insert into a values (2, 'a', 'a')",
            ],
        ));
        cases.push(Case::new(
            format!("key_of_a_row_taken_by_a_new_one_{name}"),
            format!(
                "create table a (id int primary key, u text unique, a text references a (u) {action})"
            ),
            "insert into a values (1, 'e', 'e')",
            &[
                "update a set id = id + 1",
                "insert into a values (1, 'b', 'b')",
            ],
        ));
        // what is parked for a change that waits must come back
        cases.push(Case::new(
            format!("parent_and_child_move_with_two_columns_{name}"),
            format!(
                "create table a (id int primary key, u text, w text, a int references a {action}, unique (u, w))"
            ),
            "insert into a values (4, 'a', 'a', null)",
            &[
                "insert into a values (5, 'b', null, 4)",
                "update a set id = 6 - id",
            ],
        ));
    }
    cases.push(Case::new(
        "keys_turn_while_a_row_points_back",
        "create table a (id int primary key, u text unique, a int references a {deferred})",
        "insert into a values (3, 'a', 3), (4, 'd', 3)",
        &[
            "update a set a = 4",
            "update a set id = 2 where id = 4; update a set id = 4 where id = 3;
             update a set id = 3 where id = 4; update a set a = 2",
        ],
    ));
    // the destination empties a column by itself, and the row is still the one that goes
    let emptied = "create table a (id int primary key, a int unique references a (id) on update set null {deferred})";
    cases.push(Case::new(
        "row_that_points_to_itself_comes_and_moves",
        emptied,
        "",
        &["insert into a values (4, 4); update a set id = 1 where id = 4"],
    ));
    cases.push(Case::new(
        "row_that_points_to_itself_moves_and_goes",
        emptied,
        "insert into a values (4, 4)",
        &["update a set id = 5 where id = 4; update a set a = 5 where id = 5; delete from a where id = 5"],
    ));
    // a departure that was noted when its message waited, and comes again, still makes an older change of the row old
    cases.push(
        Case::new(
            "row_gone_again_that_a_letter_would_change",
            "create table a (id int primary key, v text, u text unique {deferred})",
            "insert into a values (4, 'a', 'e')",
            &[
                "insert into a values (3, 'b', 'c')",
                "update a set id = 6 - id; update a set u = 'e', v = 'a' where id = 3;
                 update a set id = 8 - id where id in (3, 5); delete from a where id = 5",
            ],
        )
        .delivered("[m1 m2 m3] [m4] [m0 m5]"),
    );
    // two stored rows whose keys a row has passed: one of them was deleted before the row came
    for (name, action) in [
        ("cascade", "on delete cascade"),
        ("set_null", "on delete set null"),
    ] {
        for (name, from, by) in [(format!("{name}_up"), 1, 5), (format!("{name}_down"), 6, 5)] {
            cases.push(
                Case::new(
                    format!("row_passes_the_key_of_a_deleted_row_{name}"),
                    format!(
                        "create table a (id int primary key, u text unique, w text unique);
                         create table b (id int primary key, a text references a (u) {action} {{deferred}})"
                    ),
                    format!(
                        "insert into a values ({from}, 'c', 'e'), ({by}, 'b', 'b'); insert into b values (2, 'c')"
                    ),
                    &[
                        "update b set a = 'a'; update a set u = 'a' where u = 'c'",
                        &format!("delete from a where id = {by}"),
                        &format!("update a set id = {by} where id = {from}"),
                        "update a set id = 4 where u = 'a'",
                    ],
                )
                .delivered("[m0 m1 m2 m3 m4]"),
            );
        }
    }
    // rows cannot be deleted for one foreign key, and values cannot be updated for another one
    for (name, action) in [
        ("cascade", "on update cascade"),
        ("set_null", "on update set null"),
        ("restrict", "on update restrict"),
    ] {
        cases.push(Case::new(
            format!("key_moves_and_a_new_row_takes_it_{name}"),
            format!(
                "create table a (id int primary key, u text unique);
                 create table b (id int primary key, a int references a on delete set null);
                 create table c (id int primary key, a text references a (u) {action})"
            ),
            "insert into a values (2, 'b'); insert into c values (1, 'b')",
            &["update a set id = 6 - id; insert into a (id, u) values (2, 'd')"],
        ));
    }
    // a change waits that a newer letter of its row makes needless, and the letter for the key that the change leaves
    cases.push(
        Case::new(
            "letter_is_newer_than_the_move_that_it_waits_for",
            "create table a (id int primary key);
             create table c (id int primary key, u text unique, a int references a {deferred})",
            "insert into a values (5); insert into c values (1, 'c', 5)",
            &[
                "update a set id = 6; update c set a = 6",
                "update c set id = 5; update a set id = 7; update c set a = 7",
            ],
        )
        .delivered("[m0 m1 m3 m4] [m2]"),
    );
    for (name, action) in [
        ("cascade", "on update cascade"),
        ("set_null", "on update set null"),
    ] {
        // a foreign key that acts on an update of a key must not reach rows that refer to the next row of that key
        let ddl = format!(
            "create table a (id int primary key, a int references a {action} {{deferred}})"
        );
        cases.push(
            Case::new(
                format!("rows_that_refer_to_themselves_shift_{name}"),
                &ddl,
                "insert into a values (5, 5)",
                &[
                    "insert into a values (4, 4)",
                    "update a set id = 6 where id = 5; update a set id = 5 where id = 4;
                     update a set a = id",
                ],
            )
            .delivered("[m0] [m1 m2 m3 m4 m5 m6]"),
        );
        cases.push(
            Case::new(
                format!("row_returns_and_another_refers_to_it_{name}"),
                &ddl,
                "insert into a values (4, 4), (2, null)",
                &[
                    "update a set id = 3 where id = 4; update a set a = 3 where id = 3",
                    "update a set id = 4 where id = 3; update a set a = null where id = 4;
                     update a set id = 3 where id = 2; update a set a = 4 where id = 3",
                ],
            )
            .delivered("[m0 m1 m2 m3 m4 m5 m7] [m6]"),
        );
    }
    // a row gives a value up and stays for its child: its values do not tell later that it is the row which goes
    for (name, of) in [
        ("text", "text not null"),
        ("bytea", "bytea not null"),
        ("null", "text"),
    ] {
        cases.push(
            Case::new(
                format!("row_that_gave_a_value_up_goes_{name}"),
                format!(
                    "create table b (id int primary key, v text, u {of} unique);
                     create table c (id int primary key, b int references b on update cascade {{deferred}})"
                ),
                "insert into b values (1, 'c', 'c')",
                &[
                    "update b set id = 3",
                    "insert into c values (1, 3)",
                    "update b set v = 'd'; update b set id = 4",
                ],
            )
            .delivered("[m2 m3] [m0 m1] [m4]"),
        );
    }
    // a row gets the key of another one, whose delete comes later, and cannot give its value up for a moment
    for (name, action) in [
        ("cascade", "on update cascade"),
        ("set_null", "on update set null"),
        ("restrict", "on update restrict"),
    ] {
        cases.push(
            Case::new(
                format!("key_moves_before_its_row_is_deleted_{name}"),
                format!(
                    "create table a (id int primary key, u text unique);
                     create table b (id int primary key, a text references a (u) on delete set null,
                                     a2 text references a (u) {action})"
                ),
                "insert into a values (4, 'e'), (5, 'b'); insert into b values (3, 'e', 'e')",
                &["delete from a where id = 5", "update a set id = id + 1"],
            )
            .delivered("[m1] [m0]"),
        );
    }
    // a row gives its value to another one and stays, while rows refer to it by its key and to the value
    let ddl = "create table a (id int primary key, u text unique);
               create table b (id int primary key, a int references a on delete cascade);
               create table c (id int primary key, a text references a (u) {deferred})";
    cases.push(
        Case::new(
            "key_moves_with_its_value_and_another_row_comes",
            ddl,
            "insert into a values (5, 'e')",
            &[
                "update a set id = 1 where id = 5",
                "insert into a values (5, 'b')",
                "insert into c values (1, 'e')",
            ],
        )
        .delivered("[m2] [m0 m1]"),
    );
    cases.push(Case::new(
        "values_move_along_rows_that_stay",
        ddl,
        "insert into a values (1, 'a'), (2, 'b'), (3, 'c');
         insert into b values (1, 1), (2, 2), (3, 3);
         insert into c values (1, 'a'), (2, 'b'), (3, 'c')",
        &[
            "update a set u = 'd' where id = 3; update a set u = 'c' where id = 2;
           update a set u = 'b' where id = 1; update c set a = 'd' where id = 1",
        ],
    ));
    // a foreign key of the row to itself would act on the row that gets another value
    for action in ["cascade", "set null"] {
        cases.push(
            Case::new(
                format!("row_refers_to_the_value_it_loses_{}", action.replace(' ', "_")),
                format!(
                    "create table a (id int primary key, u text unique, a text references a (u) on update {action} {{deferred}})"
                ),
                "insert into a values (3, 'c', 'c')",
                &["delete from a; insert into a values (3, 'a', 'c'); delete from a"],
            )
            .delivered("[m1] [m0 m2]"),
        );
    }
    // a row gives a value up, stays for its child, and goes in the transaction that brought it
    for (name, of) in [("text", "text not null"), ("bytea", "bytea not null")] {
        cases.push(
            Case::new(
                format!("row_that_gave_a_value_up_goes_in_its_transaction_{name}"),
                format!(
                    "create table a (id int primary key, v text, u {of} unique);
                     create table c (id int primary key, a int not null references a {{deferred}})"
                ),
                "insert into a values (4, 'c', 'a')",
                &[
                    "delete from a; insert into c values (5, 4); delete from c",
                    "insert into a values (4, 'c', 'a'); update a set id = 2",
                ],
            )
            .delivered("[m0 m1 m3 m4] [m2]"),
        );
    }
    // a row loses the value that it is to refer to, and another row gets it
    cases.push(
        Case::new(
            "row_is_to_refer_to_the_value_it_loses",
            "create table a (id int primary key, u text unique, a text references a (u) on update cascade {deferred})",
            "insert into a values (4, 'a', null)",
            &[
                "delete from a",
                "insert into a values (3, 'c', 'a'); insert into a values (1, 'a', 'c')",
                "update a set id = 4 where id = 3",
            ],
        )
        .delivered("[m1] [m0 m2 m3]"),
    );
    // rows exchange values to which a foreign key refers, but no row
    for action in ["on delete set null", "on delete cascade on update restrict"] {
        cases.push(Case::new(
            format!(
                "rows_exchange_values_nobody_refers_to_{}",
                action.replace(' ', "_")
            ),
            format!(
                "create table a (id int primary key {{deferred}}, u text unique);
                 create table b (id int primary key, a text references a (u) {action})"
            ),
            "insert into a values (5, 'd'), (4, 'e')",
            &["update a set id = 9 - id"],
        ));
    }
    // rows that cannot be deleted exchange values of types that have no null here
    for (of, one, two) in [
        ("int4range", "[1,3)", "[3,4)"),
        ("int8range", "[1,3)", "[3,4)"),
        ("numrange", "[1,3)", "[3,4)"),
        (
            "daterange",
            "[2026-01-01,2026-01-03)",
            "[2026-01-03,2026-01-04)",
        ),
        (
            "tstzrange",
            "[\"2026-01-01 00:00:00+00\",\"2026-01-03 00:00:00+00\")",
            "[\"2026-01-03 00:00:00+00\",\"2026-01-04 00:00:00+00\")",
        ),
        ("inet", "10.0.0.1", "10.0.0.2"),
        ("float8", "1.5", "2.5"),
        ("numeric(10,2)", "1.50", "2.50"),
        ("interval", "1 day", "2 days"),
    ] {
        let index = match of.ends_with("range") {
            true => "exclude using gist (r with &&) {deferred}",
            false => "unique (r) {deferred}",
        };
        cases.push(Case::new(
            format!(
                "rows_that_stay_exchange_values_of_{}",
                of.split('(').next().unwrap_or_default()
            ),
            format!(
                "create table a (id int primary key, r {of} not null, {index});
                 create table b (id int primary key, a int references a on delete cascade)"
            ),
            format!("insert into a values (3, '{one}'), (2, '{two}'); insert into b values (1, 3)"),
            &["update a t set r = o.r from a o where o.id = 5 - t.id"],
        ));
    }
    // a row stays and gives its value to a new one, while a row that refers to its key has come before
    for action in [
        "on update set null",
        "on update cascade",
        "on update restrict",
    ] {
        cases.push(
            Case::new(
                format!("row_stays_for_its_child_and_gives_its_value_{}", action.replace(' ', "_")),
                format!(
                    "create table a (id int primary key, u text unique,
                                     a text references a (u) on delete set null {{deferred}});
                     create table b (id int primary key, a int references a (id) {action} {{deferred}})"
                ),
                "insert into a values (2, 'e', null)",
                &[
                    "delete from a",
                    "insert into b values (2, 2); insert into a values (2, 'c', 'e'); insert into a values (5, 'e', null)",
                ],
            )
            .delivered("[m1] [m0 m2 m3]"),
        );
    }
    cases
}
