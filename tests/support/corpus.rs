//! The files of tests/corpus.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

/// The directory of a corpus.
pub fn corpus_directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../corpus")
        .join(name)
}

/// The lines of a corpus's compressed file. Values hold U+2028 and the like: only `\n` ends a line.
pub fn corpus_lines(name: &str, file: &str) -> Vec<String> {
    let path = corpus_directory(name).join(file);
    let mut text = String::new();
    File::open(&path)
        .and_then(|file| GzDecoder::new(file).read_to_string(&mut text))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.split('\n')
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}
