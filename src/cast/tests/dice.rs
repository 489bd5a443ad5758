//! Random values, the same in every run.

/// A generator of pseudo-random numbers. Equal seeds give equal numbers.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n
    }

    pub(super) fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    pub(super) fn digits(&mut self, most: usize) -> String {
        let count = self.below(most + 1);
        let only = ["0123456789", "09", "0"][self.below(3)].as_bytes();
        let digit = |_| char::from(only[self.below(only.len())]);
        (0..count).map(digit).collect()
    }

    /// A text that the type may accept, sometimes with an edit that it may refuse.
    pub(super) fn text(&mut self, of: &str) -> String {
        let mut text = match of.split('(').next().unwrap_or(of) {
            "timestamp" | "timestamptz" if self.below(4) == 0 => {
                format!("{}1{}", self.pick(&["", "-"]), self.digits(19))
            }
            "date" => self.date(),
            "timestamp" | "timestamptz" => {
                let date = self.date();
                let between = self.pick(&["T", " ", "T", "t", "  "]);
                let clock =
                    self.pick(&["00:00:00", "23:59:59", "24:00:00", "12:34:60", "12:34:56"]);
                let fraction = self.digits(8);
                let point = if fraction.is_empty() { "" } else { "." };
                let zone = self.pick(&["", "Z", "Z", "z", "+02", " UTC"]);
                format!("{date}{between}{clock}{point}{fraction}{zone}")
            }
            "uuid" => {
                let mut uuid = "a0eebc99-9c0b-4ef8-BB6D-6bb9bd380a11".to_owned();
                let digit = self.pick(&["0", "f", "F", "9", "-", "g"]);
                let at = self.below(36);
                uuid.replace_range(at..at + 1, digit);
                uuid
            }
            "text" | "varchar" => {
                let mut text = String::new();
                for _ in 0..self.below(12) {
                    text.push_str(
                        self.pick(&["a", " ", "é", "😀", "\\", "\"", "\n", "b", "\u{1}"]),
                    );
                }
                text
            }
            _ => {
                let sign = self.pick(&["", "", "-", "-", "+", " "]);
                let whole = self.digits(25);
                let point = self.pick(&["", "", "."]);
                let fraction = if point.is_empty() {
                    String::new()
                } else {
                    self.digits(25)
                };
                let exponent = self.pick(&[
                    "", "", "", "e0", "e5", "E-7", "e+30", "e-46", "e-330", "e39",
                ]);
                format!("{sign}{whole}{point}{fraction}{exponent}")
            }
        };
        if self.below(20) == 0 {
            text.push_str(self.pick(&[" ", "x", "0", "NaN", ".", "-"]));
        }
        text
    }

    /// A document of at most `depth` levels, with random white space.
    pub(super) fn document(&mut self, depth: usize) -> String {
        let white = self.pick(&["", "", "", " ", "\n\t\r "]);
        let most = [3, 3, 3, 8, 40, 70][self.below(6)];
        let count = match depth {
            0..3 => self.below(3),
            _ => self.below(most + 1),
        };
        match self.below(if depth == 0 { 5 } else { 9 }) {
            0 => self.pick(&["null", "true", "false"]).to_owned(),
            1 | 2 => self.number(),
            3 | 4 => self.string(),
            5 | 6 => {
                let items: Vec<_> = (0..count)
                    .map(|_| format!("{white}{}{white}", self.document(depth - 1)))
                    .collect();
                format!("[{white}{}]", items.join(","))
            }
            _ => {
                let members: Vec<_> = (0..count)
                    .map(|n| {
                        let key = match self.below(3) {
                            0 => self.string(),
                            1 => format!("\"{}{n}\"", self.pick(&["a", "id", "é"])),
                            _ => format!("\"{}\"", self.pick(&["a", "b", "", "\\u0061"])),
                        };
                        let value = self.document(depth - 1);
                        format!("{white}{key}{white}:{white}{value}{white}")
                    })
                    .collect();
                format!("{{{white}{}}}", members.join(","))
            }
        }
    }

    pub(super) fn number(&mut self) -> String {
        let sign = self.pick(&["", "", "-"]);
        let digits = match self.below(20) {
            0 => self.digits(150),
            1..4 => self.digits(25),
            _ => self.digits(6),
        };
        let whole = match digits.trim_start_matches('0') {
            "" => "0",
            whole => whole,
        };
        let fraction = match self.below(3) {
            0 => format!(".{}0", self.digits(9)),
            1 if self.below(4) == 0 => format!(".{}1", self.digits(90)),
            _ => String::new(),
        };
        let exponent = self.pick(&[
            "", "", "", "", "e0", "e1", "E+2", "e-3", "E-07", "e30", "e-70", "e100", "e-255",
            "e+253",
        ]);
        format!("{sign}{whole}{fraction}{exponent}")
    }

    pub(super) fn string(&mut self) -> String {
        let mut text = "\"".to_owned();
        for _ in 0..self.below(9) {
            text.push_str(self.pick(&[
                "a",
                "key",
                "é",
                "😀",
                "\u{7f}",
                "[",
                "}",
                "a longer piece of plain text",
                "\\\\",
                "\\\"",
                "\\/",
                "\\b\\f\\n\\r\\t",
                "\\u0001",
                "\\u00e9",
                "\\u20AC",
                "\\ud83d\\ude00",
            ]));
        }
        text + "\""
    }

    pub(super) fn date(&mut self) -> String {
        if self.below(2) == 0 {
            return self
                .pick(&["2024-10-28", "1999-12-31", "0001-01-01", "9999-12-31"])
                .to_owned();
        }
        let year = self.pick(&[
            "2024", "1900", "2000", "0000", "1582", "2023", "12024", "99",
        ]);
        let month = self.pick(&["01", "02", "02", "12", "04", "11", "13", "00", "3"]);
        let day = self.pick(&["01", "28", "29", "30", "31", "32", "00", "15", "7"]);
        format!("{year}-{month}-{day}")
    }
}
