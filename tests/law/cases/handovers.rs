//! A row hands over the value that other rows refer to, where foreign keys act when a row goes: another row has the value
//! afterwards, so the rows that refer to it stay.

use crate::case::Case;

/// What the foreign key does; what the source can do depends on it.
const ACTIONS: [(&str, &str); 7] = [
    ("cascade", "on delete cascade"),
    ("set_null", "on delete set null"),
    ("restrict", "on delete restrict"),
    ("cascade_restrict", "on delete cascade on update restrict"),
    ("restrict_restrict", "on delete restrict on update restrict"),
    ("set_null_restrict", "on delete set null on update restrict"),
    ("cascade_cascade", "on delete cascade on update cascade"),
];

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, action) in ACTIONS {
        let mut add = |what: &str, columns: &str, rows: &str, transactions: &[&str]| {
            let ddl = format!(
                "create table a (id int primary key, {columns});
                 create table b (id int primary key, a text references a (u) {action} {{deferred}})"
            );
            let name = format!("{what}_{name}");
            cases.push(Case::new(name, ddl, rows, transactions));
        };
        add(
            "keys_shift_below_a_value",
            "u text unique, w text",
            "insert into a values (4, 'a', 'x'), (5, 'b', 'y'); insert into b values (1, 'a'), (2, 'b')",
            &["update a set id = 6 where id = 5; update a set id = 5 where id = 4"],
        );
        add(
            "keys_shift_and_a_row_comes",
            "u text unique, w text",
            "insert into a values (4, 'a', 'x'), (5, 'b', 'y'); insert into b values (2, 'b')",
            &[
                "update a set id = 6 where id = 5; update a set id = 5 where id = 4",
                "insert into a values (4, 'c', 'z'); insert into b values (3, 'c')",
            ],
        );
        add(
            "keys_shift_over_one_that_leaves",
            "u text unique, w text",
            "insert into a values (3, 'z', 'z'), (4, 'a', 'x'), (5, 'b', 'y'); insert into b values (2, 'a')",
            &[
                "delete from a where id = 5",
                "update a set id = 5 where id = 4; update a set id = 4 where id = 3",
            ],
        );
        add(
            "value_of_one_that_leaves_comes_to_one_that_came",
            "u text unique, w text",
            "insert into a values (5, 'a', 'b'), (3, 'd', 'a')",
            &[
                "delete from a where id = 5",
                "delete from a where id = 3; insert into a values (5, 'd', 'd')",
                "insert into b values (3, 'd')",
            ],
        );
        add(
            "value_of_one_that_leaves_comes_to_another",
            "u text unique, w text",
            "insert into a values (5, 'a', 'b'), (3, 'd', 'a')",
            &[
                "delete from a where id = 3; update a set u = 'd' where id = 5",
                "insert into b values (3, 'd')",
            ],
        );
        add(
            "row_is_replaced_by_another_with_its_value",
            "u text unique not null, w text",
            "insert into a values (1, 'e', 'x')",
            &[
                "delete from a where id = 1; insert into a values (8, 'e', 'y')",
                "insert into b values (6, 'e')",
            ],
        );
        add(
            "value_moves_on",
            "u text unique, w text",
            "insert into a values (1, 'e', 'x'), (2, 'f', 'y')",
            &[
                "update a set u = 'g' where id = 2; update a set u = 'f' where id = 1",
                "insert into b values (6, 'f'), (7, 'g')",
            ],
        );
    }
    // A row moves, and is to have at its new key the value of one that leaves.
    for (name, action) in [
        ("cascade", "on delete cascade on update set null"),
        ("restrict", "on delete restrict on update restrict"),
    ] {
        cases.push(Case::new(
            format!("value_comes_to_a_row_that_moves_{name}"),
            format!(
                "create table a (id int primary key, u text not null unique);
                 create table b (id int primary key, a text references a (u) {action} {{deferred}})"
            ),
            "insert into a values (1, 'c'), (2, 'b')",
            &[
                "delete from a where id = 1",
                "update a set u = 'c' where id = 2; insert into b values (1, 'c'); update a set id = 4 where id = 2",
            ],
        ));
    }
    // The row that gives the value up holds another one, which is not referred to.
    for (name, action) in [
        ("cascade", "on delete cascade"),
        ("restrict", "on delete restrict"),
    ] {
        cases.push(Case::new(
            format!("row_with_two_values_gives_them_up_{name}"),
            format!(
                "create table a (id int primary key, u text not null unique, w text not null unique,
                                 a text references a (u) {action} {{deferred}})"
            ),
            "insert into a values (4, 'a', 'e', null)",
            &[
                "insert into a values (3, 'c', 'a', 'a')",
                "update a set id = 5 where id = 4; update a set id = 4 where id = 3",
            ],
        ));
    }
    // One waits for a child of the row at whose key the other is to be.
    cases.push(Case::new(
        "value_comes_to_a_row_whose_child_follows",
        "create table a (id int primary key, u text not null unique);
         create table b (id int primary key, a text references a (u) on delete cascade on update set null {deferred})",
        "insert into a values (1, 'c'), (2, 'b'); insert into b values (3, 'b')",
        &[
            "delete from a where id = 1",
            "update a set u = 'c' where u = 'b'; insert into b values (1, 'c')",
        ],
    ));
    // What the source deferred, the rows that refer to the value never noticed.
    for (name, action) in [
        ("cascade", "on delete cascade"),
        ("set_null", "on delete set null"),
    ] {
        let ddl = format!(
            "create table a (id int primary key, u text unique);
             create table b (id int primary key, a text references a (u) {action} {{deferred}})"
        );
        cases.push(Case::new(
            format!("value_is_taken_from_a_row_that_leaves_{name}"),
            &ddl,
            "insert into a values (5, 'h'), (6, 'k'); insert into b values (1, 'h')",
            &["update a set u = 'zz' where id = 5; update a set u = 'h' where id = 6; delete from a where id = 5"],
        ));
        cases.push(Case::new(
            format!("value_is_taken_from_a_row_that_stays_{name}"),
            &ddl,
            "insert into a values (5, 'h'), (6, 'k'); insert into b values (1, 'h')",
            &["update a set u = 'zz' where id = 5; update a set u = 'h' where id = 6"],
        ));
    }
    cases
}
