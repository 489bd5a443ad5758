//! The rooms of `src/` and their order: which file may import which. No server is needed.
//!
//! A room is a file of `src/` with the folder of its name. A room imports only rooms of the layers below its own. Imports
//! between files make no circle, and imports between folders make none. Tests may import anything.
//!
//! A path is an import wherever it stands: in a `use`, in a signature, in a macro. A name that a module passes on
//! (`pub use child::Name`) counts as an import of the file that defines it. So does a call of a method that another file
//! adds to a type. A child may import what its parent defines if the parent uses nothing of the child. A `mod` is not an
//! import.

mod circles;
mod documents;
mod rules;
mod source;
mod synthetic;
mod tokens;

use std::fs;
use std::io::{Write, stderr};
use std::path::Path;

use rules::{Rules, check};
use source::Texts;

/// The rooms from the top to the bottom.
const RULES: Rules<'static> = Rules {
    layers: &[
        &["api"],
        &["apply"],
        &["dead_letter", "write"],
        &["changes"],
        &["guard"],
        &["target"],
        &["blame", "route"],
        &["mapping"],
        &["counters", "destination"],
        &[
            "backfill", "cast", "key", "memo", "outcome", "prepared", "settings", "stop",
        ],
        &["envelope", "merge", "pg"],
        &["error", "image", "message", "spell"],
        &["civil", "column_set", "json", "statement"],
    ],
    knows_only: &[("pg", &["error"])],
    may_lack_forbid: &[
        (
            "src/lib.rs",
            "what the root forbids, pg could not allow again",
        ),
        (
            "src/api.rs",
            "`function!` declares the C symbol of sequin_apply",
        ),
        (
            "src/api/dead_letter.rs",
            "`function!` declares the C symbols of sequin.retry",
        ),
        (
            "src/api/discard.rs",
            "`function!` declares the C symbol of sequin_internal.discard_portion",
        ),
        (
            "src/api/prune.rs",
            "`function!` declares the C symbol of sequin_internal.prune_portion",
        ),
        (
            "src/api/resync_portion.rs",
            "`function!` declares the C symbol of sequin_internal.resync_portion",
        ),
        (
            "src/api/retry_all.rs",
            "`function!` declares the C symbol of sequin_internal.retry_portion",
        ),
        (
            "src/api/row_key.rs",
            "`function!` declares the C symbol of sequin.row_key",
        ),
    ],
    most_lines: 550,
};

fn read(folder: &Path, name: &str, texts: &mut Texts) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let file = path.file_name().expect("a name").to_string_lossy();
        let name = format!("{name}/{file}");
        if path.is_dir() {
            read(&path, &name, texts);
        } else if name.ends_with(".rs") {
            texts.insert(name, fs::read_to_string(&path).expect("a text"));
        }
    }
}

fn sources() -> Texts {
    let mut texts = Texts::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    read(&root.join("src"), "src", &mut texts);
    texts
}

#[test]
fn public_items_have_documents() {
    let texts = sources();
    let of_a_test = |path: &str| path.contains("/tests/") || path.ends_with("tests.rs");
    let faults: Vec<String> = texts
        .iter()
        .filter(|(path, _)| !of_a_test(path))
        .flat_map(|(path, text)| documents::faults(path, text))
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn rooms_stay_in_their_layers() {
    let report = check(&source::read(&sources()), &RULES);
    // `print!` would show only in a failure
    writeln!(stderr(), "{report}").expect("stderr");
    assert!(report.faults.is_empty(), "see the list above");
}
