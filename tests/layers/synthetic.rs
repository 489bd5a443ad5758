//! Small crates, each of which breaks one rule: a rule that nothing breaks tells nothing.

use crate::rules::{Report, Rules, check};
use crate::source::{Texts, read};

const RULES: Rules<'static> = Rules {
    layers: &[&["top"], &["left", "right"], &["pg"], &["low"]],
    knows_only: &[],
    may_lack_forbid: &[("src/lib.rs", "it is the root")],
    most_lines: 8,
};

const FORBID: &str = "#![forbid(unsafe_code)]\n";

/// A crate of these files, in place of a sound one's; all of them forbid unsafe code.
fn report(rules: &Rules<'_>, files: &[(&str, &str)]) -> Report {
    let mut texts = Texts::new();
    let root = "mod top;\nmod left;\nmod right;\nmod pg;\nmod low;\n";
    texts.insert("src/lib.rs".to_owned(), root.to_owned());
    for room in ["top", "left", "right", "pg", "low"] {
        texts.insert(format!("src/{room}.rs"), FORBID.to_owned());
    }
    for (path, text) in files {
        texts.insert((*path).to_owned(), format!("{FORBID}{text}"));
    }
    check(&read(&texts), rules)
}

/// What the crate with these files breaks.
fn faults(files: &[(&str, &str)]) -> Vec<String> {
    report(&RULES, files).faults
}

/// The crate with these files breaks nothing.
fn sound(files: &[(&str, &str)]) {
    assert_eq!(faults(files), Vec::<String>::new());
}

#[test]
fn rooms_may_import_what_is_below() {
    let report = report(
        &RULES,
        &[
            (
                "src/top.rs",
                "use crate::{left::Left, low};\nfn f() { low::f() }",
            ),
            ("src/left.rs", "pub struct Left(crate::low::Low);"),
        ],
    );
    assert_eq!(report.faults, Vec::<String>::new());
    assert_eq!((report.files, report.circles, report.upward), (6, 0, 0));
}

#[test]
fn an_import_that_runs_up_is_a_fault() {
    let upward = [
        "use crate::top::Top;",
        "use crate::{pg, top};",
        "use super::top;",
        "fn f() { crate::top::f() }",
        "fn f() -> Vec<super::top::Top> { vec![] }",
        "fn f() { println!(\"{}\", crate::top::f()) }",
        "macro_rules! f { () => { $crate::top::f() } }",
        "mod inner { use super::super::top::Top; }",
        "fn f<'a>(c: char) { match c { '\"' => crate::top::f(), _ => () } }",
        "pub(crate) use crate::top::{self as other};",
        "#[cfg(not(test))]\nuse crate::top::Top;",
    ];
    for text in upward {
        let report = report(&RULES, &[("src/left.rs", text)]);
        assert_eq!(report.upward, 1, "{text}: {report}");
        let fault = "import runs up: src/left.rs -> src/top.rs (";
        assert!(report.faults[0].starts_with(fault), "{text}: {report}");
    }
}

#[test]
fn rooms_of_one_layer_do_not_know_each_other() {
    let found = faults(&[("src/left.rs", "\nuse crate::right::Right;")]);
    let fault =
        "import runs within a layer: src/left.rs -> src/right.rs (crate::right::Right, line 3)";
    assert_eq!(found, [fault]);
}

#[test]
fn nothing_imports_the_root() {
    let found = faults(&[("src/low.rs", "use crate::setting;")]);
    assert_eq!(
        found,
        ["import runs up: src/low.rs -> src/lib.rs (crate::setting, line 2)"]
    );
}

#[test]
fn what_is_no_import_is_none() {
    sound(&[
        (
            "src/left.rs",
            "//! See [`crate::top`].\n/* use crate::top; */",
        ),
        ("src/right.rs", "const A: &str = \"crate::top::A\";"),
        ("src/low.rs", "const B: &str = r#\"use \"crate::top;\"#;"),
        (
            "src/pg.rs",
            "use other::top::Top;\nfn f() { top::g(); Top::new() }",
        ),
    ]);
}

#[test]
fn tests_may_import_anything() {
    sound(&[
        (
            "src/left.rs",
            "#[cfg(test)]\nmod tests;\n#[cfg(any(test, feature = \"pg_test\"))]\npub mod look {\n use crate::top;\n}",
        ),
        ("src/left/tests.rs", "use crate::top;\nmod more;"),
        ("src/left/tests/more.rs", "use crate::top;"),
        (
            "src/low.rs",
            "#[cfg(test)]\nuse crate::{top, left};\n#[cfg(test)]\nfn f<A, B>() { crate::top::f() }\nstruct A;",
        ),
    ]);
    let found = faults(&[(
        "src/low.rs",
        "#[cfg(test)]\nuse crate::{low};\nuse crate::top;",
    )]);
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn a_circle_of_files_is_a_fault() {
    let found = faults(&[
        ("src/low.rs", "mod a;\nmod b;\npub use a::A;"),
        ("src/low/a.rs", "use super::b::B;"),
        ("src/low/b.rs", "fn f() { crate::low::a::f() }"),
    ]);
    assert_eq!(
        found,
        [
            "circle of files: src/low/a.rs, src/low/b.rs",
            "    src/low/a.rs -> src/low/b.rs (super::b::B, line 2)",
            "    src/low/b.rs -> src/low/a.rs (crate::low::a::f, line 2)",
        ]
    );
}

#[test]
fn a_parent_that_uses_its_child_is_not_for_the_child() {
    // a declaration is no import
    sound(&[
        ("src/low.rs", "mod a;\npub struct Low;"),
        ("src/low/a.rs", "use super::Low;"),
    ]);
    // nor is a name that the parent only passes on its own
    sound(&[
        ("src/low.rs", "mod a;\nmod b;\npub use b::B;"),
        ("src/low/a.rs", "use super::B;"),
        ("src/low/b.rs", "pub struct B;"),
    ]);
    for import in ["pub use a::A;", "fn f() { a::f() }", "use self::a::A;"] {
        let parent = format!("mod a;\npub struct Low;\n{import}");
        let found = report(
            &RULES,
            &[("src/low.rs", &parent), ("src/low/a.rs", "use super::Low;")],
        );
        assert_eq!(found.circles, 1, "{import}: {found}");
    }
}

#[test]
fn a_method_that_another_file_adds_is_an_import_of_that_file() {
    let child = "use super::Low;\nimpl<T> Low<T> {\n fn a(f: impl Fn()) {}\n fn grow(&self) {}\n}";
    for call in ["self.grow()", "Self::grow(self)", "low.grow()"] {
        let parent = format!("mod a;\npub struct Low<T>(T);\nfn f() {{ {call} }}");
        let found = faults(&[("src/low.rs", &parent), ("src/low/a.rs", child)]);
        assert_eq!(
            found,
            [
                "circle of files: src/low.rs, src/low/a.rs",
                "    src/low.rs -> src/low/a.rs (.grow(), line 4)",
                "    src/low/a.rs -> src/low.rs (super::Low, line 2)",
            ],
            "{call}"
        );
    }
    let low = ("src/low.rs", "mod a;\npub struct Low<T>(T);");
    sound(&[low, ("src/low/a.rs", child)]);
    // who does not know the type calls a method of the same name
    sound(&[
        low,
        ("src/low/a.rs", child),
        ("src/pg.rs", "fn f() { x.grow() }"),
    ]);
    // a trait's methods are known by the trait
    let of_trait = "use super::Low;\nimpl Grow for Low {\n fn grow(&self) {}\n}";
    let parent = "mod a;\npub struct Low;\nfn f() { self.grow() }";
    sound(&[("src/low.rs", parent), ("src/low/a.rs", of_trait)]);
}

#[test]
fn a_circle_of_rooms_is_a_fault() {
    // the files are in no circle
    let found = faults(&[
        ("src/low.rs", "mod a;\nmod b;"),
        ("src/low/a.rs", "mod deep;\nuse super::b::B;"),
        ("src/low/a/deep.rs", ""),
        ("src/low/b.rs", "mod deep;"),
        ("src/low/b/deep.rs", "use crate::low::a::deep::Deep;"),
    ]);
    assert_eq!(
        found,
        [
            "circle of rooms: src/low/a, src/low/b",
            "    src/low/a.rs -> src/low/b.rs (super::b::B, line 3)",
            "    src/low/b/deep.rs -> src/low/a/deep.rs (crate::low::a::deep::Deep, line 2)",
        ]
    );
}

#[test]
fn a_room_may_know_less_than_its_layer_allows() {
    let rules = Rules {
        knows_only: &[("left", &["pg"])],
        ..RULES
    };
    let files = [("src/left.rs", "use crate::{low, pg};")];
    let found = report(&rules, &files).faults;
    assert_eq!(
        found,
        ["left must not know low: src/left.rs -> src/low.rs (crate::low, line 2)"]
    );
}

#[test]
fn every_room_is_in_a_layer() {
    let rules = Rules {
        layers: &[&["top"], &["left", "right"], &["pg"], &["gone"]],
        ..RULES
    };
    let found = report(&rules, &[]).faults;
    assert_eq!(
        found,
        ["low is in no layer", "gone is in a layer, not in src/"]
    );
}

#[test]
fn every_file_is_in_a_module() {
    let found = faults(&[("src/low/stray.rs", "")]);
    assert_eq!(found, ["src/low/stray.rs is in no module"]);
}

#[test]
fn a_long_file_is_a_fault() {
    // one line more is the attribute's
    let lines = |n: usize| "//\n".repeat(n);
    sound(&[("src/low.rs", &lines(7))]);
    let found = faults(&[("src/low.rs", &lines(8))]);
    assert_eq!(found, ["src/low.rs has 9 lines without tests, more than 8"]);
    let tests = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", lines(7), lines(50));
    sound(&[("src/low.rs", &tests)]);
    let above = format!("#[cfg(test)]\nmod tests {{\n}}\n{}", lines(8));
    assert_eq!(faults(&[("src/low.rs", &above)]).len(), 1);
}

#[test]
fn unsafe_code_stays_in_its_room() {
    sound(&[("src/pg.rs", "unsafe fn f() {}")]);
    sound(&[("src/low.rs", "// unsafe\nconst A: &str = \"unsafe\";")]);
    let found = faults(&[("src/low.rs", "\nfn f() { unsafe { g() } }")]);
    assert_eq!(found, ["src/low.rs has unsafe code, line 3"]);
    let found = faults(&[
        ("src/low.rs", "#[cfg(test)]\nmod tests;"),
        ("src/low/tests.rs", "unsafe fn f() {}"),
    ]);
    assert_eq!(found, ["src/low/tests.rs has unsafe code, line 2"]);
}

#[test]
fn files_forbid_unsafe_code() {
    const ROOT: (&str, &str) = ("src/lib.rs", "");
    const NONE: [&str; 0] = [];
    fn without(files: &[(&str, &str)], exceptions: &[(&str, &str)]) -> Vec<String> {
        let mut texts = Texts::new();
        texts.insert("src/lib.rs".to_owned(), "mod low;\nmod pg;".to_owned());
        for (path, text) in files {
            texts.insert((*path).to_owned(), (*text).to_owned());
        }
        let rules = Rules {
            layers: &[&["pg"], &["low"]],
            may_lack_forbid: exceptions,
            ..RULES
        };
        check(&read(&texts), &rules).faults
    }
    let bare = [("src/low.rs", "//! Low.\n"), ("src/pg.rs", "")];
    assert_eq!(
        without(&bare, &[ROOT]),
        ["src/low.rs does not forbid unsafe code"]
    );
    assert_eq!(without(&bare, &[ROOT, ("src/low.rs", "")]), NONE);
    let forbids = [
        ("src/low.rs", "//! Low.\n\n#![forbid(unsafe_code)]\n"),
        ("src/pg.rs", ""),
    ];
    assert_eq!(without(&forbids, &[ROOT]), NONE);
    assert_eq!(
        without(&forbids, &[ROOT, ("src/low.rs", ""), ("src/gone.rs", "")]),
        [
            "src/low.rs is an exception in vain",
            "src/gone.rs is an exception, not in src/"
        ]
    );
}
