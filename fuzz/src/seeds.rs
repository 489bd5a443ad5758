//! Inputs to begin with: the repository's own messages and values.

use std::fs;
use std::path::Path;

/// What `target` begins with.
pub fn of(target: &str) -> Vec<Vec<u8>> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    // this file is compiled by the extension too, whose directory is the one above
    let mut roots = [manifest.to_owned(), manifest.join("..")].into_iter();
    let root = roots.find(|root| root.join("tests/fixtures").is_dir());
    let root = root.expect("the repository");
    match target {
        "json" | "batch" => fixtures(&root),
        "jsonb" => fixtures(&root)
            .iter()
            .filter_map(|text| super::targets::jsonb_of(std::str::from_utf8(text).ok()?))
            .collect(),
        "mapping" => [
            "public.products",
            "shop.\"Sales*\".\"a.\"\"b\"",
            "*.*",
            "record.address.city",
            "metadata.database.name",
            r#"{"id":"record.id","*":"record.*","n":{"value":1.50},"s":{"sql":"lower(record->>'a')"}}"#,
            r#"{"a":"action","b":"record","c":"changes.x"}"#,
        ]
        .map(|text| text.as_bytes().to_vec())
        .to_vec(),
        "spell" => values(&root),
        _ => Vec::new(),
    }
}

fn fixtures(root: &Path) -> Vec<Vec<u8>> {
    let dir = fs::read_dir(root.join("tests/fixtures")).expect("tests/fixtures");
    let mut paths: Vec<_> = dir.map(|entry| entry.expect("a file").path()).collect();
    paths.sort();
    paths
        .iter()
        .map(|path| fs::read(path).expect("a fixture"))
        .collect()
}

/// What Sequin sends of each type, before it the number of a shape: the one that fits, as far as names tell.
fn values(root: &Path) -> Vec<Vec<u8>> {
    let matrix = fs::read_to_string(root.join("tests/types/type_matrix.tsv")).expect("the matrix");
    let mut values = Vec::new();
    for (n, line) in matrix.lines().enumerate() {
        for sent in line.split('\t').skip(4) {
            if let Some((_, json)) = sent.split_once(' ') {
                values.push([&[n as u8], json.as_bytes()].concat());
            }
        }
    }
    values
}
