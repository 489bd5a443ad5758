//! The tokens of a source file.

#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    Word,
    Literal,
    Sign,
}

#[derive(Debug, Clone)]
pub struct Token {
    pub kind: Kind,
    pub text: String,
    pub line: usize,
}

impl Token {
    pub fn is(&self, text: &str) -> bool {
        self.kind != Kind::Literal && self.text == text
    }
}

/// Words, literals and signs; `::` is one sign. Comments and lifetimes are left out.
pub fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let (mut i, mut line) = (0, 1);
    while i < chars.len() {
        let start = i;
        let kind = match at(i) {
            c if c.is_whitespace() => {
                i += 1;
                None
            }
            '/' if at(i + 1) == '/' => {
                while i < chars.len() && at(i) != '\n' {
                    i += 1;
                }
                None
            }
            '/' if at(i + 1) == '*' => {
                let mut depth = 0;
                loop {
                    match (at(i), at(i + 1)) {
                        ('/', '*') => (depth, i) = (depth + 1, i + 2),
                        ('*', '/') => (depth, i) = (depth - 1, i + 2),
                        _ => i += 1,
                    }
                    if depth == 0 || i >= chars.len() {
                        break;
                    }
                }
                None
            }
            c if is_word(c) => {
                while is_word(at(i)) {
                    i += 1;
                }
                let word: String = chars[start..i].iter().collect();
                let prefix = matches!(word.as_str(), "r" | "b" | "br" | "c" | "cr");
                let mut hashes = i;
                while prefix && at(hashes) == '#' {
                    hashes += 1;
                }
                if prefix && at(hashes) == '"' && (word.contains('r') || hashes == i) {
                    let closing = format!("\"{}", "#".repeat(hashes - i));
                    let raw = word.contains('r');
                    i = hashes + 1;
                    while i < chars.len()
                        && !closing.chars().enumerate().all(|(n, c)| at(i + n) == c)
                    {
                        i += if !raw && at(i) == '\\' { 2 } else { 1 };
                    }
                    i += closing.len();
                    Some(Kind::Literal)
                } else {
                    Some(Kind::Word)
                }
            }
            '"' => {
                i += 1;
                while i < chars.len() && at(i) != '"' {
                    i += if at(i) == '\\' { 2 } else { 1 };
                }
                i += 1;
                Some(Kind::Literal)
            }
            '\'' if at(i + 1) == '\\' => {
                i += 3;
                while i < chars.len() && at(i) != '\'' {
                    i += 1;
                }
                i += 1;
                Some(Kind::Literal)
            }
            '\'' if at(i + 2) == '\'' => {
                i += 3;
                Some(Kind::Literal)
            }
            '\'' => {
                i += 1;
                while is_word(at(i)) {
                    i += 1;
                }
                None
            }
            ':' if at(i + 1) == ':' => {
                i += 2;
                Some(Kind::Sign)
            }
            _ => {
                i += 1;
                Some(Kind::Sign)
            }
        };
        let end = i.min(chars.len());
        if let Some(kind) = kind {
            let text = chars[start..end].iter().collect();
            found.push(Token { kind, text, line });
        }
        line += chars[start..end].iter().filter(|c| **c == '\n').count();
    }
    found
}

/// The tokens of a file, read one after another.
pub struct Cursor<'a> {
    pub tokens: &'a [Token],
    pub next: usize,
}

impl<'a> Cursor<'a> {
    pub fn peek(&self, ahead: usize) -> Option<&'a Token> {
        self.tokens.get(self.next + ahead)
    }

    pub fn sees(&self, ahead: usize, text: &str) -> bool {
        self.peek(ahead).is_some_and(|token| token.is(text))
    }

    pub fn word(&self, ahead: usize) -> Option<&'a str> {
        let token = self.peek(ahead)?;
        (token.kind == Kind::Word).then_some(token.text.as_str())
    }

    pub fn line(&self) -> usize {
        let last = self.peek(0).or(self.tokens.last());
        last.map_or(1, |token| token.line)
    }

    /// Skips what the bracket that is next encloses.
    pub fn skip_brackets(&mut self) {
        let mut depth = 0;
        while let Some(token) = self.peek(0) {
            match token.text.as_str() {
                "(" | "[" | "{" if token.kind == Kind::Sign => depth += 1,
                ")" | "]" | "}" if token.kind == Kind::Sign => depth -= 1,
                _ => (),
            }
            self.next += 1;
            if depth == 0 {
                return;
            }
        }
    }

    /// Skips an item, or a field, a variant or a statement.
    pub fn skip_item(&mut self) {
        let items = "async const enum extern fn impl let macro_rules mod static struct trait type union unsafe use";
        let is_item = self
            .word(0)
            .is_some_and(|word| items.split(' ').any(|item| item == word));
        let is_use = self.sees(0, "use");
        while let Some(token) = self.peek(0) {
            match token.text.as_str() {
                _ if token.kind == Kind::Literal => self.next += 1,
                ";" => {
                    self.next += 1;
                    return;
                }
                "," if !is_item => {
                    self.next += 1;
                    return;
                }
                "}" => return,
                "{" => {
                    self.skip_brackets();
                    if !is_use {
                        return;
                    }
                }
                "(" | "[" => self.skip_brackets(),
                _ => self.next += 1,
            }
        }
    }
}
