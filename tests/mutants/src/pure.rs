//! The crate: a copy of the rooms, with the mutants in it.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use syn::{ImplItem, Item};

use crate::Result;
use crate::flips::{Flips, Mutant, is_for_tests};

/// Rooms that the others import.
const IMPORTED: [&str; 4] = ["civil", "column_set", "error", "image"];

/// The modules of mapping that ask the server, by their imports: they stay out.
fn asking_the_server(src: &Path) -> Result<Vec<OsString>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(src.join("mapping"))? {
        let path = entry?.path();
        if path.is_file() {
            let text = fs::read_to_string(&path)?;
            let asking = [
                "use crate::pg::",
                "use crate::prepared::",
                "use pgrx::prelude::",
                "use super::catalog",
            ];
            if asking.iter().any(|import| text.contains(import)) {
                found.extend(path.file_stem().map(OsStr::to_owned));
            }
        }
    }
    Ok(found)
}

/// The file of a room and those in its folder, below `src`, without `out`.
fn files(src: &Path, room: &str, out: &[OsString]) -> Result<Vec<PathBuf>> {
    fn below(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                below(&path, found)?;
            } else if path.extension() == Some(OsStr::new("rs")) {
                found.push(path);
            }
        }
        Ok(())
    }
    let mut found = vec![src.join(format!("{room}.rs"))];
    if src.join(room).is_dir() {
        below(&src.join(room), &mut found)?;
    }
    found.retain(|path| {
        let in_mapping = path.parent() == Some(&src.join("mapping"));
        !in_mapping
            || !out
                .iter()
                .any(|name| path.file_stem() == Some(name.as_os_str()))
    });
    found.sort();
    Ok(found)
}

/// What a file says of the structs and enums in it, without what asks the server: `left_out` names types and functions.
fn described(source: &str, uses: syn::File, left_out: &[&str]) -> Result<String> {
    let mut file = syn::parse_file(source)?;
    let is_out = |name: &syn::Ident| left_out.iter().any(|out| name == out);
    file.items.retain_mut(|item| match item {
        Item::Struct(item) => !is_out(&item.ident),
        Item::Enum(item) => !is_out(&item.ident),
        Item::Impl(item) => {
            item.items
                .retain(|item| !matches!(item, ImplItem::Fn(f) if is_out(&f.sig.ident)));
            matches!(&*item.self_ty, syn::Type::Path(path) if path.path.get_ident().is_some_and(|name| !is_out(name)))
        }
        _ => false,
    });
    file.items.splice(0..0, uses.items);
    Ok(prettyplease::unparse(&file))
}

/// Writes what the rooms know of a destination.
fn write_destination(src: &Path, made: &Path) -> Result<()> {
    let uses = syn::parse_quote!(
        pub mod links;
        use crate::statement::Shards;
        use links::Links;
        use pgrx::pg_sys;
        use pgrx::spi::quote_qualified_identifier;
    );
    let source = fs::read_to_string(src.join("destination.rs"))?;
    let of_server = ["load", "known", "of", "definition", "row"];
    let destination = described(&source, uses, &of_server)?;
    fs::write(made.join("src/destination.rs"), destination)?;
    let uses = syn::parse_quote!(
        use pgrx::pg_sys;
    );
    let source = fs::read_to_string(src.join("destination/links.rs"))?;
    fs::create_dir_all(made.join("src/destination"))?;
    let links = described(&source, uses, &["Queries"])?;
    fs::write(made.join("src/destination/links.rs"), links)?;
    Ok(())
}

/// Whether a file holds only tests, by where it stands.
fn is_test(path: &Path) -> bool {
    path.components().any(|part| {
        let name = part.as_os_str().to_string_lossy();
        name == "tests" || name == "tests.rs"
    })
}

/// Writes the crate, with mutants if there are `flips`.
fn write(root: &Path, made: &Path, rooms: &[&str], mut flips: Option<&mut Flips>) -> Result<()> {
    let src = root.join("src");
    let pure = root.join("tests/mutants/pure");
    let out = asking_the_server(&src)?;
    let is_out = |name: &syn::Ident| out.iter().any(|out| *out == *name.to_string());
    if made.exists() {
        fs::remove_dir_all(made)?;
    }
    fs::create_dir_all(made.join("src"))?;
    fs::copy(root.join("Cargo.lock"), made.join("Cargo.lock"))?;
    fs::copy(pure.join("Cargo.toml"), made.join("Cargo.toml"))?;
    for name in ["lib.rs", "pgrx.rs", "mutant.rs"] {
        fs::copy(pure.join(name), made.join("src").join(name))?;
    }
    std::os::unix::fs::symlink(root.join("tests"), made.join("tests"))?;
    for room in rooms.iter().chain(&IMPORTED) {
        for path in files(&src, room, &out)? {
            let name = path.strip_prefix(&src)?;
            let mut text = fs::read_to_string(&path)?;
            if !is_test(name) {
                let mut file = syn::parse_file(&text)?;
                file.items.retain(|item| match item {
                    Item::Mod(item) if is_out(&item.ident) => false,
                    Item::Mod(item) => rooms.contains(room) || !is_for_tests(&item.attrs),
                    _ => true,
                });
                if let Some(flips) = flips.as_deref_mut()
                    && rooms.contains(room)
                {
                    flips.file(&name.to_string_lossy(), &text, &mut file);
                }
                text = prettyplease::unparse(&file);
            }
            let to = made.join("src").join(name);
            fs::create_dir_all(to.parent().expect("a folder"))?;
            fs::write(to, text)?;
        }
    }
    write_destination(&src, made)
}

/// Checks that the crate compiles without mutants.
pub fn check(root: &Path, place: &Path, rooms: &[&str]) -> Result<()> {
    let made = place.join("unchanged");
    write(root, &made, rooms, None)?;
    let checked = Command::new("cargo")
        .args(["check", "--quiet", "--tests"])
        .env("CARGO_TARGET_DIR", place.join("target"))
        .current_dir(&made)
        .status()?;
    match checked.success() {
        true => Ok(()),
        false => Err("the rooms do not compile; see tests/mutants/pure".into()),
    }
}

/// Makes the crate and builds its tests. Returns the mutants by number, `None` where one does not compile, and the
/// program of the tests.
pub fn build(root: &Path, place: &Path, rooms: &[&str]) -> Result<(Vec<Option<Mutant>>, PathBuf)> {
    let made = place.join("crate");
    let mut unviable = BTreeSet::new();
    for round in 1.. {
        let mut flips = Flips::without(unviable.clone());
        write(root, &made, rooms, Some(&mut flips))?;
        eprintln!(
            "building, round {round}: {} mutants",
            flips.mutants.len() - unviable.len()
        );
        let built = Command::new("cargo")
            .args([
                "test",
                "--quiet",
                "--lib",
                "--no-run",
                "--message-format=json",
            ])
            .env("CARGO_TARGET_DIR", place.join("target"))
            .current_dir(&made)
            .stdout(Stdio::piped())
            .output()?;
        let messages = String::from_utf8_lossy(&built.stdout);
        let messages = messages
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut program = None;
        let (mut bad, mut told) = (BTreeSet::new(), String::new());
        for message in messages {
            if let Some(path) = message["executable"].as_str() {
                program = Some(PathBuf::from(path));
            }
            if message["message"]["level"] == "error" {
                told += message["message"]["rendered"].as_str().unwrap_or("");
                bad.extend(culprit(&made, &message["message"])?);
            }
        }
        if built.status.success() {
            let mutants = flips.mutants.into_iter().enumerate();
            let viable = mutants.map(|(n, m)| (!unviable.contains(&n)).then_some(m));
            return Ok((viable.collect(), program.ok_or("no program of tests")?));
        }
        let before = unviable.len();
        unviable.extend(bad);
        if unviable.len() == before || round > 20 {
            let said = String::from_utf8_lossy(&built.stderr);
            return Err(
                format!("the rooms do not compile; see tests/mutants/pure\n{told}{said}").into(),
            );
        }
    }
    unreachable!("each round ends or returns")
}

/// The mutant that an error of the compiler is in: the last one before it.
fn culprit(made: &Path, message: &Value) -> Result<Option<usize>> {
    let spans = message["spans"].as_array();
    let primary = spans.and_then(|spans| spans.iter().find(|span| span["is_primary"] == true));
    let Some(span) = primary else { return Ok(None) };
    let (Some(file), Some(at)) = (span["file_name"].as_str(), span["byte_start"].as_u64()) else {
        return Ok(None);
    };
    let text = fs::read(made.join(file))?;
    let before = String::from_utf8_lossy(&text[..(at as usize).min(text.len())]).into_owned();
    let last = before.rsplit_once("mutant::alive(");
    Ok(last.and_then(|(_, rest)| rest.split("u32").next()?.parse().ok()))
}
