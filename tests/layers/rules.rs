//! The rules, and what breaks them.

use std::collections::BTreeSet;
use std::fmt;

use crate::circles::circles;
use crate::source::{Import, ROOT, Tree};

/// What must hold of a crate.
pub struct Rules<'a> {
    /// The rooms of each layer, from the top to the bottom. A room knows the layers below its own.
    pub layers: &'a [&'a [&'a str]],
    /// Rooms that know less than that, and the rooms that they know.
    pub knows_only: &'a [(&'a str, &'a [&'a str])],
    /// Files that cannot forbid unsafe code, and why. None is listed in vain.
    pub may_lack_forbid: &'a [(&'a str, &'a str)],
    /// The most lines of a file, tests not counted.
    pub most_lines: usize,
}

/// The room whose files alone may have unsafe code.
const UNSAFE_ROOM: &str = "pg";

/// What a crate breaks.
#[derive(Debug, Default)]
pub struct Report {
    pub files: usize,
    pub circles: usize,
    pub upward: usize,
    /// A line each.
    pub faults: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in &self.faults {
            writeln!(f, "{fault}")?;
        }
        let (files, circles, upward) = (self.files, self.circles, self.upward);
        write!(
            f,
            "{files} files, {circles} circles, {upward} upward imports, {} faults",
            self.faults.len()
        )
    }
}

/// The room of a file: the file of its name in `src/`, and the folder.
fn room(path: &str) -> &str {
    let path = path.trim_start_matches("src/");
    path.split('/')
        .next()
        .unwrap_or(path)
        .trim_end_matches(".rs")
}

fn told(import: &Import) -> String {
    let Import {
        from,
        to,
        line,
        path,
    } = import;
    format!("{from} -> {to} ({path}, line {line})")
}

/// Asks all the rules.
pub fn check(tree: &Tree, rules: &Rules<'_>) -> Report {
    let mut report = Report {
        files: tree.files.len(),
        ..Report::default()
    };
    of_circles(tree, &mut report);
    of_layers(tree, rules, &mut report);
    of_files(tree, rules, &mut report);
    report
}

fn of_circles(tree: &Tree, report: &mut Report) {
    let edges: Vec<(&str, &str)> = tree
        .imports
        .iter()
        .map(|import| (import.from.as_str(), import.to.as_str()))
        .collect();
    for circle in circles(edges.iter().copied()) {
        report.circles += 1;
        let files = circle.join(", ");
        report.faults.push(format!("circle of files: {files}"));
        let inside = |path: &String| circle.contains(&path.as_str());
        for import in &tree.imports {
            if inside(&import.from) && inside(&import.to) {
                report.faults.push(format!("    {}", told(import)));
            }
        }
    }
    // in each folder, what stands there: a file, or a folder with the file of its name
    let mut folders: BTreeSet<&str> = BTreeSet::new();
    for mut path in tree.files.keys().map(String::as_str) {
        while let Some((folder, _)) = path.rsplit_once('/') {
            folders.insert(folder);
            path = folder;
        }
    }
    for folder in folders {
        let inside = |path: &str| -> Option<String> {
            let rest = path.strip_prefix(folder)?.strip_prefix('/')?;
            let name = rest.split('/').next()?.trim_end_matches(".rs");
            Some(format!("{folder}/{name}"))
        };
        let placed: Vec<_> = tree
            .imports
            .iter()
            .filter_map(|import| Some((inside(&import.from)?, inside(&import.to)?, import)))
            .filter(|(from, to, _)| from != to)
            .collect();
        for circle in circles(placed.iter().map(|(from, to, _)| (&**from, &**to))) {
            let within: Vec<_> = placed
                .iter()
                .filter(|(from, to, _)| circle.contains(&&**from) && circle.contains(&&**to))
                .collect();
            let files = circles(within.iter().map(|(_, _, i)| (&*i.from, &*i.to)));
            if files.iter().any(|files| {
                let all: BTreeSet<_> = files.iter().filter_map(|file| inside(file)).collect();
                circle.iter().all(|name| all.contains(*name))
            }) {
                continue; // the same circle, told above
            }
            report.circles += 1;
            let rooms = circle.join(", ");
            report.faults.push(format!("circle of rooms: {rooms}"));
            for (_, _, import) in within {
                report.faults.push(format!("    {}", told(import)));
            }
        }
    }
}

fn of_layers(tree: &Tree, rules: &Rules<'_>, report: &mut Report) {
    let layer = |name: &str| rules.layers.iter().position(|rooms| rooms.contains(&name));
    let there: BTreeSet<&str> = tree
        .files
        .iter()
        .filter(|(path, file)| !file.is_test && path.as_str() != ROOT)
        .map(|(path, _)| room(path))
        .collect();
    for name in &there {
        if layer(name).is_none() {
            report.faults.push(format!("{name} is in no layer"));
        }
    }
    for name in rules.layers.iter().copied().flatten() {
        if !there.contains(name) {
            report
                .faults
                .push(format!("{name} is in a layer, not in src/"));
        }
    }
    for import in &tree.imports {
        let (from, to) = (room(&import.from), room(&import.to));
        if from == to || import.from == ROOT {
            continue;
        }
        let runs = match (layer(from), layer(to)) {
            _ if import.to == ROOT => "up",
            (Some(from), Some(to)) if from == to => "within a layer",
            (Some(from), Some(to)) if from > to => "up",
            _ => {
                let mut only = rules.knows_only.iter().filter(|(name, _)| *name == from);
                if only.any(|(_, known)| !known.contains(&to)) {
                    let told = told(import);
                    report
                        .faults
                        .push(format!("{from} must not know {to}: {told}"));
                }
                continue;
            }
        };
        report.upward += 1;
        let told = told(import);
        report.faults.push(format!("import runs {runs}: {told}"));
    }
}

fn of_files(tree: &Tree, rules: &Rules<'_>, report: &mut Report) {
    for path in &tree.strays {
        report.faults.push(format!("{path} is in no module"));
    }
    for (path, file) in &tree.files {
        if !file.is_test && file.lines > rules.most_lines {
            let (lines, most) = (file.lines, rules.most_lines);
            let fault = format!("{path} has {lines} lines without tests, more than {most}");
            report.faults.push(fault);
        }
        if room(path) == UNSAFE_ROOM {
            continue;
        }
        let listed = rules.may_lack_forbid.iter().any(|(file, _)| file == path);
        match file.unsafe_line {
            Some(line) if !listed => {
                report
                    .faults
                    .push(format!("{path} has unsafe code, line {line}"));
            }
            _ => (),
        }
        if !file.is_test && !file.forbids_unsafe && !listed {
            report
                .faults
                .push(format!("{path} does not forbid unsafe code"));
        }
        if file.forbids_unsafe && listed {
            report
                .faults
                .push(format!("{path} is an exception in vain"));
        }
    }
    for (path, _) in rules.may_lack_forbid {
        if !tree.files.contains_key(*path) {
            report
                .faults
                .push(format!("{path} is an exception, not in src/"));
        }
    }
}
