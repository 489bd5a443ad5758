//! Parents that come after their children, leave before them, or are replaced.

use super::ON_DELETE;
use crate::case::Case;

pub fn cases() -> Vec<Case> {
    let ddl = "create table p (id int primary key, v text);
               create table k (id int primary key, p int references p {action} {deferred})";
    let mut cases = Vec::new();
    for (name, on_delete) in ON_DELETE {
        let ddl = ddl.replace("{action}", on_delete);
        cases.push(Case::new(
            format!("family_comes_and_goes_{name}"),
            &ddl,
            "insert into p values (1, 'a')",
            &[
                "insert into k values (10, 1)",
                "delete from k where id = 10; delete from p where id = 1",
            ],
        ));
        cases.push(Case::new(
            format!("children_find_another_parent_{name}"),
            &ddl,
            "insert into p values (1, 'a'); insert into k values (10, 1)",
            &[
                "insert into p values (2, 'b'); update k set p = 2 where id = 10",
                "delete from p where id = 1",
            ],
        ));
        cases.push(Case::new(
            format!("parent_comes_back_{name}"),
            &ddl,
            "insert into p values (1, 'a'); insert into k values (10, 1)",
            &[
                "delete from k where id = 10; delete from p where id = 1",
                "insert into p values (1, 'b'); insert into k values (10, 1)",
            ],
        ));
        cases.push(Case::new(
            format!("three_generations_{name}"),
            format!("{ddl}; create table g (id int primary key, k int references k {on_delete} {{deferred}})"),
            "insert into p values (1, 'a'); insert into k values (10, 1); insert into g values (20, 10)",
            &["delete from g where id = 20; delete from k where id = 10; delete from p where id = 1",
              "insert into p values (1, 'b')"],
        ));
    }
    // deferred at the source: the parent is away for a while
    let plain = ddl.replace("{action}", "");
    cases.push(Case::new(
        "parent_is_made_anew",
        &plain,
        "insert into p values (1, 'a'); insert into k values (10, 1)",
        &[
            "delete from p where id = 1; insert into p values (1, 'b')",
            "update k set id = 11 where id = 10",
        ],
    ));
    cases.push(Case::new(
        "parents_key_moves",
        &plain,
        "insert into p values (1, 'a'); insert into k values (10, 1), (11, 1)",
        &[
            "update p set id = 2 where id = 1; update k set p = 2",
            "update p set v = 'b' where id = 2",
        ],
    ));
    cases.extend(without_checks());
    cases.extend(acting_without_checks());
    cases
}

/// Foreign keys that act, where not all triggers are on or not all rows were checked.
fn acting_without_checks() -> Vec<Case> {
    let ddl =
        "create table p (id int primary key, v text); create table k (id int primary key, p int)";
    let rows = "insert into p values (1, 'a'); insert into k values (10, 1)";
    let mut cases = Vec::new();
    for (name, action) in [
        ("cascading", "on delete cascade on update cascade"),
        ("setting_null", "on delete set null on update set null"),
    ] {
        let key = format!("alter table k add constraint k_p foreign key (p) references p {action}");
        for (how, destination) in [
            ("not_valid", format!("{key} not valid")),
            (
                "children_unchecked",
                format!("{key}; alter table k disable trigger all"),
            ),
            (
                "parents_unchecked",
                format!("{key}; alter table p disable trigger all"),
            ),
        ] {
            for (what, transactions) in [
                ("parent_leaves", ["delete from p where id = 1"].as_slice()),
                ("key_moves", &["update p set id = 2 where id = 1"]),
                (
                    "parent_leaves_and_comes_back",
                    &[
                        "delete from p where id = 1",
                        "insert into p values (1, 'b'); insert into k values (11, 1)",
                    ],
                ),
            ] {
                cases.push(
                    Case::new(format!("{name}_{how}_{what}"), ddl, rows, transactions)
                        .at_source(&key)
                        .at_destination(&destination),
                );
            }
        }
        // nobody checks that the children have a parent, and nothing happens to them
        cases.push(
            Case::new(
                format!("{name}_in_vain"),
                ddl,
                rows,
                &[
                    "delete from p where id = 1",
                    "insert into p values (3, 'c')",
                    "update p set id = 4 where id = 3",
                ],
            )
            .at_destination(format!(
                "{key}; alter table p disable trigger all; alter table k disable trigger all"
            )),
        );
    }
    cases
}

/// Foreign keys that do not check all that there is, at the destination alone.
fn without_checks() -> Vec<Case> {
    let ddl =
        "create table p (id int primary key, v text); create table k (id int primary key, p int)";
    let deferred = "alter table k add constraint k_p foreign key (p) references p deferrable initially deferred";
    let rows = "insert into p values (1, 'a'); insert into k values (10, 1)";
    let mut cases = Vec::new();
    for (name, destination) in [
        (
            "not_valid",
            "alter table k add constraint k_p foreign key (p) references p not valid",
        ),
        (
            "children_unchecked",
            "alter table k add constraint k_p foreign key (p) references p; alter table k disable trigger all",
        ),
        (
            "parents_unchecked",
            "alter table k add constraint k_p foreign key (p) references p; alter table p disable trigger all",
        ),
        (
            "cascading",
            "alter table k add constraint k_p foreign key (p) references p on delete cascade on update cascade",
        ),
        (
            "setting_null",
            "alter table k add constraint k_p foreign key (p) references p on delete set null on update set null",
        ),
        (
            "restricting",
            "alter table k add constraint k_p foreign key (p) references p on delete restrict on update restrict",
        ),
    ] {
        let of = |what: &str, transactions: &[&str]| {
            Case::new(format!("{name}_{what}"), ddl, rows, transactions)
                .at_source(deferred)
                .at_destination(destination)
        };
        cases.push(of(
            "family_leaves",
            &["delete from k where id = 10; delete from p where id = 1"],
        ));
        cases.push(of(
            "parent_leaves_first",
            &["delete from p where id = 1; delete from k where id = 10"],
        ));
        cases.push(of(
            "family_comes",
            &["insert into k values (12, 2); insert into p values (2, 'b')"],
        ));
        cases.push(of(
            "parent_is_made_anew",
            &["delete from p where id = 1; insert into p values (1, 'b')"],
        ));
        cases.push(of(
            "parents_key_moves",
            &["update p set id = 2 where id = 1; update k set p = 2 where id = 10"],
        ));
    }
    cases
}
