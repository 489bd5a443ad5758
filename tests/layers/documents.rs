//! Whether public items say what they are. The compiler's `missing_docs` looks at items that another crate can
//! reach, and no crate can reach anything of a server's library. A field needs no document where its name says all.

/// The kinds of items that must have documents.
const ITEMS: [&str; 7] = ["fn", "struct", "enum", "trait", "type", "const", "static"];

/// What a line declares publicly: an item, or a field; with its name.
enum Declared<'l> {
    Item(&'l str),
    Field(&'l str),
}

fn declared(line: &str) -> Option<Declared<'_>> {
    let mut words = line.trim_start().strip_prefix("pub ")?.split_whitespace();
    let mut word = words.next()?;
    while matches!(word, "unsafe" | "extern" | "\"C-unwind\"" | "\"C\"")
        || word == "const" && line.contains(" fn ")
    {
        word = words.next()?;
    }
    let end = |c: char| !(c.is_alphanumeric() || c == '_');
    if ITEMS.contains(&word) {
        let name = words.next()?.split(end).next()?;
        // in a macro it is none
        return (!name.is_empty()).then_some(Declared::Item(name));
    }
    let field = word.strip_suffix(':').filter(|name| !name.contains(end));
    field.map(Declared::Field)
}

/// Whether a document only says the item's name again: `/// Its name.` of `name`.
fn says_nothing(document: &str, name: &str) -> bool {
    let plain = document.trim_end_matches('.').to_lowercase();
    let said = plain
        .trim_start_matches("its ")
        .trim_start_matches("the ")
        .trim_start_matches("a ");
    said.replace(' ', "_") == name.to_lowercase()
}

/// The faults of a file's text, a line each.
pub fn faults(path: &str, text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let mut faults = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        // Unit tests stand at the end of a file.
        if line.starts_with("mod tests {") {
            break;
        }
        let Some(declared) = declared(line) else {
            continue;
        };
        let (Declared::Item(name) | Declared::Field(name)) = declared;
        let mut before = lines[..i].iter().rev().map(|line| line.trim());
        let document = before.find(|line| !line.starts_with("#["));
        let number = i + 1;
        match document.and_then(|line| line.strip_prefix("///")) {
            None if matches!(declared, Declared::Field(_)) => {}
            None => faults.push(format!("{path}:{number}: {name} has no document")),
            Some(last) => {
                let one_line = before.next().is_none_or(|line| !line.starts_with("///"));
                if one_line && says_nothing(last.trim(), name) {
                    faults.push(format!(
                        "{path}:{number}: the document of {name} says its name again"
                    ));
                }
            }
        }
    }
    faults
}

#[test]
fn a_public_item_without_a_document_is_a_fault() {
    let text = "/// What it does.\npub fn good() {}\n\n#[inline]\npub const fn bad() {}\n";
    assert_eq!(faults("f", text), ["f:5: bad has no document"]);
    let text = "/// Rows of a table.\n#[derive(Debug)]\npub struct Rows {\n    /// Its width.\n    pub width: usize,\n}\n";
    assert_eq!(
        faults("f", text),
        ["f:5: the document of width says its name again"]
    );
}

#[test]
fn private_items_and_tests_need_none() {
    let text =
        "fn private() {}\nlet pub_ = 1;\npub use a::b;\nmod tests {\n    pub fn test() {}\n}\n";
    assert_eq!(faults("f", text), Vec::<String>::new());
}
