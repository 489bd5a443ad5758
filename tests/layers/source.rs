//! Reads the sources as far as the rules need: which file is which module, and which file imports which.

use std::collections::{BTreeMap, BTreeSet};

use super::tokens::{Cursor, Kind, Token, tokens};

/// The text of each file by its path, as `src/merge.rs`.
pub type Texts = BTreeMap<String, String>;

/// A file that the crate is made of.
#[derive(Default)]
pub struct File {
    /// Whether it is compiled for tests alone.
    pub is_test: bool,
    /// Its lines, without the items that are compiled for tests alone.
    pub lines: usize,
    /// Whether it begins with `#![forbid(unsafe_code)]`.
    pub forbids_unsafe: bool,
    /// The first line that says `unsafe`.
    pub unsafe_line: Option<usize>,
}

/// A file that names something of another file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Import {
    pub from: String,
    pub to: String,
    /// The first line of `from` that does so.
    pub line: usize,
    /// The path that stands there.
    pub path: String,
}

/// The crate.
#[derive(Default)]
pub struct Tree {
    pub files: BTreeMap<String, File>,
    /// Of code that ships, one for each pair of files.
    pub imports: Vec<Import>,
    /// Files that no `mod` declares.
    pub strays: Vec<String>,
}

/// The file that all others are declared under.
pub const ROOT: &str = "src/lib.rs";

/// A module's path from the crate's root: `["merge", "tests"]`.
type Module = Vec<String>;

/// A path as it stands in a module.
struct Mention {
    file: String,
    module: Module,
    path: Vec<String>,
    line: usize,
}

/// What is found in the files before a path can be resolved.
#[derive(Default)]
struct Reader {
    tree: Tree,
    /// The file that holds a module.
    modules: BTreeMap<Module, String>,
    /// The path that a name was imported from, by the module that imported it.
    names: BTreeMap<(Module, String), Vec<String>>,
    /// The file that defines a macro; its name may be reached from the crate's root.
    macros: BTreeMap<String, String>,
    mentions: Vec<Mention>,
    test_modules: BTreeSet<Module>,
    /// Methods of inherent `impl`s, each with the type as it stands there.
    methods: Vec<Method>,
    /// Calls of methods.
    calls: Vec<Call>,
    /// The files that define a function of this name.
    functions: BTreeMap<String, BTreeSet<String>>,
}

struct Method {
    file: String,
    module: Module,
    of: Vec<String>,
    name: String,
}

struct Call {
    file: String,
    name: String,
    line: usize,
}

/// A file that a `mod` declares.
struct Declared {
    path: String,
    module: Module,
    is_test: bool,
}

/// Whether an attribute's tokens are those of a `cfg` that tests alone fulfil.
fn is_for_tests(attribute: &[Token]) -> bool {
    let has = |text: &str| attribute.iter().any(|token| token.text == text);
    has("cfg") && (has("test") || has("\"pg_test\"")) && !has("not")
}

/// The file of a module that stands in a folder.
fn file_of(texts: &Texts, folder: &str, name: &str) -> Option<String> {
    [
        format!("{folder}/{name}.rs"),
        format!("{folder}/{name}/mod.rs"),
    ]
    .into_iter()
    .find(|path| texts.contains_key(path))
}

/// The folder for the modules of a file.
fn folder_of(path: &str) -> String {
    match path
        .strip_suffix("/lib.rs")
        .or(path.strip_suffix("/mod.rs"))
    {
        Some(folder) => folder.to_owned(),
        None => path.trim_end_matches(".rs").to_owned(),
    }
}

/// A path with its `..` taken away.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." => (),
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

impl Reader {
    fn file(&mut self, texts: &Texts, declared: Declared) {
        let Some(text) = texts.get(&declared.path) else {
            return;
        };
        let tokens = tokens(text);
        let mut file = File {
            is_test: declared.is_test,
            lines: text.lines().count(),
            ..File::default()
        };
        file.unsafe_line = tokens.iter().find(|t| t.is("unsafe")).map(|t| t.line);
        let mut cursor = Cursor {
            tokens: &tokens,
            next: 0,
        };
        while cursor.sees(0, "#") && cursor.sees(1, "!") && cursor.sees(2, "[") {
            let start = cursor.next;
            cursor.next += 2;
            cursor.skip_brackets();
            let attribute = &tokens[start..cursor.next];
            let has = |text: &str| attribute.iter().any(|token| token.is(text));
            file.forbids_unsafe |= has("forbid") && has("unsafe_code");
            file.is_test |= is_for_tests(attribute);
        }
        if file.is_test {
            self.test_modules.insert(declared.module.clone());
        }
        self.modules
            .insert(declared.module.clone(), declared.path.clone());
        let folder = folder_of(&declared.path);
        let mut below = Vec::new();
        let at = Place {
            texts,
            path: &declared.path,
            folder,
        };
        self.items(&at, &declared.module, &mut cursor, &mut file, &mut below);
        self.tree.files.insert(declared.path, file);
        for declared in below {
            self.file(texts, declared);
        }
    }

    /// The items of a module, up to its end.
    fn items(
        &mut self,
        at: &Place<'_>,
        module: &Module,
        cursor: &mut Cursor<'_>,
        file: &mut File,
        below: &mut Vec<Declared>,
    ) {
        let mut depth = 0;
        // the type whose methods come, and how deep they stand
        let mut methods_of: Option<(Vec<String>, i32)> = None;
        let mut attributes = Vec::new();
        let mut first_line = cursor.line();
        while let Some(token) = cursor.peek(0) {
            if attributes.is_empty() {
                first_line = token.line;
            }
            if token.is("#") && cursor.sees(1, "[") {
                let start = cursor.next;
                cursor.next += 1;
                cursor.skip_brackets();
                attributes.extend_from_slice(&cursor.tokens[start..cursor.next]);
                continue;
            }
            if token.is("pub") {
                cursor.next += 1;
                if cursor.sees(0, "(") {
                    cursor.skip_brackets();
                }
                continue;
            }
            let for_tests = is_for_tests(&attributes);
            let attributes = std::mem::take(&mut attributes);
            match (cursor.word(0), cursor.word(1)) {
                (Some("mod"), Some(name)) if cursor.sees(2, ";") => {
                    cursor.next += 3;
                    let named = attributes.windows(3).find(|t| t[0].is("path"));
                    let path = match named {
                        Some(t) => {
                            let from = at.path.rsplit_once('/').map_or("", |(folder, _)| folder);
                            Some(normal(&format!("{from}/{}", t[2].text.trim_matches('"'))))
                        }
                        None => file_of(at.texts, &at.folder, name),
                    };
                    let module = [module.as_slice(), &[name.to_owned()]].concat();
                    below.extend(path.map(|path| Declared {
                        path,
                        module,
                        is_test: file.is_test || for_tests,
                    }));
                }
                _ if for_tests => {
                    cursor.skip_item();
                    let last = &cursor.tokens[cursor.next - 1];
                    file.lines -= (last.line + 1).saturating_sub(first_line);
                }
                (Some("mod"), Some(name)) if cursor.sees(2, "{") => {
                    cursor.next += 3;
                    let module = [module.as_slice(), &[name.to_owned()]].concat();
                    self.modules.insert(module.clone(), at.path.to_owned());
                    let at = Place {
                        folder: format!("{}/{name}", at.folder),
                        ..*at
                    };
                    self.items(&at, &module, cursor, file, below);
                    cursor.next += 1;
                }
                (Some("macro_rules"), _) => {
                    if let Some(name) = cursor.word(2) {
                        self.macros.insert(name.to_owned(), at.path.to_owned());
                    }
                    cursor.next += 3;
                }
                (Some("impl"), _) if depth == 0 => {
                    methods_of = implemented(cursor).map(|of| (of, depth + 1));
                    cursor.next += 1;
                }
                (Some("fn"), Some(name)) => {
                    let file = at.path.to_owned();
                    let files = self.functions.entry(name.to_owned()).or_default();
                    files.insert(file.clone());
                    if let Some((of, inside)) = &methods_of
                        && *inside == depth
                    {
                        self.methods.push(Method {
                            file,
                            module: module.clone(),
                            of: of.clone(),
                            name: name.to_owned(),
                        });
                    }
                    cursor.next += 2;
                }
                (Some("use"), _) => {
                    cursor.next += 1;
                    self.used(at, module, cursor, Vec::new());
                }
                (Some(_), _) => {
                    let line = cursor.line();
                    let before = cursor.next.checked_sub(1).map(|at| &cursor.tokens[at]);
                    let follows = before.is_some_and(|token| token.is("::") || token.is("."));
                    let path = path(cursor);
                    let of_value = before.is_some_and(|token| token.is("."));
                    if let ([name], true) | ([_, name], false) = (path.as_slice(), of_value)
                        && (of_value || path[0] == "Self")
                    {
                        self.calls.push(Call {
                            file: at.path.to_owned(),
                            name: name.clone(),
                            line,
                        });
                    }
                    if path.len() > 1 && !follows {
                        self.mention(at, module, path, line);
                    }
                }
                (None, _) => {
                    match token.text.as_str() {
                        "{" if token.kind == Kind::Sign => depth += 1,
                        "}" if token.kind == Kind::Sign && depth == 0 => return,
                        "}" if token.kind == Kind::Sign => {
                            depth -= 1;
                            methods_of.take_if(|(_, inside)| *inside > depth);
                        }
                        _ => (),
                    }
                    cursor.next += 1;
                }
            }
        }
    }

    /// The tree of a `use`: each of its leaves is a mention, and a name in this module.
    fn used(
        &mut self,
        at: &Place<'_>,
        module: &Module,
        cursor: &mut Cursor<'_>,
        before: Vec<String>,
    ) {
        let line = cursor.line();
        if cursor.sees(0, "::") {
            cursor.next += 1; // a crate's name follows
        }
        let mut whole = before;
        whole.extend(path(cursor));
        if cursor.sees(0, "::") {
            cursor.next += 1;
        }
        if cursor.sees(0, "{") {
            cursor.next += 1;
            while cursor.peek(0).is_some() && !cursor.sees(0, "}") {
                self.used(at, module, cursor, whole.clone());
                if cursor.sees(0, ",") {
                    cursor.next += 1;
                }
            }
            cursor.next += 1;
            return;
        }
        if cursor.sees(0, "*") {
            cursor.next += 1;
        } else {
            if whole.last().is_some_and(|last| last == "self") && whole.len() > 1 {
                whole.pop();
            }
            let mut name = whole.last().cloned();
            if cursor.sees(0, "as") {
                name = cursor.word(1).map(str::to_owned);
                cursor.next += 2;
            }
            if let Some(name) = name {
                self.names.insert((module.clone(), name), whole.clone());
            }
        }
        self.mention(at, module, whole, line);
    }

    fn mention(&mut self, at: &Place<'_>, module: &Module, path: Vec<String>, line: usize) {
        self.mentions.push(Mention {
            file: at.path.to_owned(),
            module: module.clone(),
            path,
            line,
        });
    }

    /// The module that a path, as it stands in `module`, leads to. A name that the module there only imported is followed
    /// to where it comes from. `None`: another crate's, or a local name.
    fn resolve(&self, module: &[String], path: &[String], depth: usize) -> Option<Module> {
        if depth > 16 {
            return None;
        }
        let mut at = module.to_vec();
        let mut rest = path;
        let mut begun = false;
        while let Some((first, others)) = rest.split_first() {
            match first.as_str() {
                "crate" => at = Module::new(),
                "self" => (),
                "super" => drop(at.pop()),
                _ => break,
            }
            begun = true;
            rest = others;
        }
        if !begun && rest.first().is_some_and(|first| !self.knows(&at, first)) {
            return None;
        }
        while let Some((name, others)) = rest.split_first() {
            let below = [at.as_slice(), std::slice::from_ref(name)].concat();
            if self.modules.contains_key(&below) {
                at = below;
                rest = others;
                continue;
            }
            if let Some(imported) = self.names.get(&(at.clone(), name.clone())) {
                let whole = [imported.as_slice(), others].concat();
                if whole != path || at != module {
                    let found = self.resolve(&at, &whole, depth + 1);
                    // what another crate defines is no import of ours
                    return found.or_else(|| begun.then_some(at));
                }
            }
            break;
        }
        Some(at)
    }

    fn knows(&self, module: &[String], name: &str) -> bool {
        let below = [module, &[name.to_owned()]].concat();
        self.modules.contains_key(&below)
            || self.names.contains_key(&(module.to_vec(), name.to_owned()))
    }

    /// Calls of a method that a file other than its type's adds to it: no path says where it is. Only a name that one
    /// file alone defines is known for sure, and only where the type is known.
    fn calls_of_added_methods(
        &self,
        imports: &BTreeMap<(String, String), (usize, String)>,
    ) -> Vec<Import> {
        let mut found = Vec::new();
        for method in &self.methods {
            let Some(module) = self.resolve(&method.module, &method.of, 0) else {
                continue;
            };
            let home = &self.modules[&module];
            if *home == method.file || self.functions[&method.name].len() > 1 {
                continue;
            }
            for call in self.calls.iter().filter(|call| call.name == method.name) {
                let pair = (call.file.clone(), home.clone());
                if call.file == *home || imports.contains_key(&pair) {
                    found.push(Import {
                        from: call.file.clone(),
                        to: method.file.clone(),
                        line: call.line,
                        path: format!(".{}()", method.name),
                    });
                }
            }
        }
        found
    }

    fn finish(mut self, texts: &Texts) -> Tree {
        let mut imports: BTreeMap<(String, String), (usize, String)> = BTreeMap::new();
        for mention in &self.mentions {
            let Some(module) = self.resolve(&mention.module, &mention.path, 0) else {
                continue;
            };
            let mut to = &self.modules[&module];
            if let ([root, name, ..], true) = (mention.path.as_slice(), module.is_empty())
                && root == "crate"
                && let Some(defined) = self.macros.get(name)
            {
                to = defined;
            }
            let is_test = |path: &String| self.tree.files.get(path).is_none_or(|f| f.is_test);
            if *to == mention.file || is_test(&mention.file) || is_test(to) {
                continue;
            }
            let found = (mention.line, mention.path.join("::"));
            imports
                .entry((mention.file.clone(), to.clone()))
                .and_modify(|first| *first = first.clone().min(found.clone()))
                .or_insert(found);
        }
        for call in self.calls_of_added_methods(&imports) {
            let is_test = |path: &String| self.tree.files.get(path).is_none_or(|f| f.is_test);
            if call.from == call.to || is_test(&call.from) || is_test(&call.to) {
                continue;
            }
            imports
                .entry((call.from, call.to))
                .or_insert((call.line, call.path));
        }
        self.tree.imports = imports
            .into_iter()
            .map(|((from, to), (line, path))| Import {
                from,
                to,
                line,
                path,
            })
            .collect();
        self.tree.strays = texts
            .keys()
            .filter(|path| !self.tree.files.contains_key(*path))
            .cloned()
            .collect();
        self.tree
    }
}

/// The type of an inherent `impl`, which is next; `None` for a trait's.
fn implemented(cursor: &Cursor<'_>) -> Option<Vec<String>> {
    let mut angles = 0;
    let mut of = Vec::new();
    for ahead in 1.. {
        let token = cursor.peek(ahead)?;
        match token.text.as_str() {
            "<" => angles += 1,
            ">" => angles -= 1,
            "for" if angles == 0 => return None,
            "{" | "where" if angles == 0 => break,
            "::" => (),
            _ if angles == 0 => of.push(token.text.clone()),
            _ => (),
        }
    }
    Some(of)
}

/// Where items stand.
struct Place<'a> {
    texts: &'a Texts,
    path: &'a str,
    /// The folder for files of modules that are declared there.
    folder: String,
}

/// Words with `::` between them; the cursor is left behind them.
fn path(cursor: &mut Cursor<'_>) -> Vec<String> {
    let mut path = Vec::new();
    while let Some(word) = cursor.word(0) {
        path.push(word.to_owned());
        cursor.next += 1;
        if !cursor.sees(0, "::") || cursor.word(1).is_none() {
            break;
        }
        cursor.next += 1;
    }
    path
}

/// Reads the crate whose root is [`ROOT`].
pub fn read(texts: &Texts) -> Tree {
    let mut reader = Reader::default();
    let root = Declared {
        path: ROOT.to_owned(),
        module: Module::new(),
        is_test: false,
    };
    reader.file(texts, root);
    reader.finish(texts)
}
