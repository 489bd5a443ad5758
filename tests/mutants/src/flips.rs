//! Puts mutants into a file: `a < b` becomes `if alive(7) { a <= b } else { a < b }`.

use std::collections::BTreeSet;

use proc_macro2::Span;
use quote::quote;
use syn::spanned::Spanned;
use syn::visit_mut::{self, VisitMut};
use syn::{
    Arm, Attribute, BinOp, Block, Expr, ExprBinary, Item, Lit, Pat, ReturnType, Signature, Stmt,
    Type, UnOp, parse_quote,
};

/// A change of one thing.
#[derive(Debug, Clone)]
pub struct Mutant {
    /// The file below `src/`.
    pub file: String,
    /// The line in it.
    pub line: usize,
    /// The function that it is in.
    pub function: String,
    /// The text of that line.
    pub text: String,
    /// What is changed.
    pub change: String,
}

/// Puts mutants into files; their number is their place among all.
#[derive(Default)]
pub struct Flips {
    pub mutants: Vec<Mutant>,
    /// Those that do not compile.
    unviable: BTreeSet<usize>,
    file: String,
    function: String,
    lines: Vec<String>,
}

/// Whether an item is compiled for tests alone.
pub fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let text = quote!(#attribute).to_string();
        text.contains("cfg") && text.contains("test") && !text.contains("not")
    })
}

fn has_let(expr: &Expr) -> bool {
    match expr {
        Expr::Let(_) => true,
        Expr::Binary(ExprBinary { left, right, .. }) => has_let(left) || has_let(right),
        Expr::Paren(paren) => has_let(&paren.expr),
        _ => false,
    }
}

fn text(tokens: impl quote::ToTokens) -> String {
    let text = quote!(#tokens).to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Other operators in place of one.
fn others(op: &BinOp) -> Vec<BinOp> {
    match op {
        BinOp::Eq(_) => vec![parse_quote!(!=)],
        BinOp::Ne(_) => vec![parse_quote!(==)],
        BinOp::Lt(_) => vec![parse_quote!(<=), parse_quote!(>=)],
        BinOp::Le(_) => vec![parse_quote!(<), parse_quote!(>)],
        BinOp::Gt(_) => vec![parse_quote!(>=), parse_quote!(<=)],
        BinOp::Ge(_) => vec![parse_quote!(>), parse_quote!(<)],
        BinOp::And(_) => vec![parse_quote!(||)],
        BinOp::Or(_) => vec![parse_quote!(&&)],
        BinOp::Add(_) => vec![parse_quote!(-)],
        BinOp::Sub(_) => vec![parse_quote!(+)],
        BinOp::Mul(_) => vec![parse_quote!(/)],
        BinOp::Div(_) | BinOp::Rem(_) => vec![parse_quote!(*)],
        BinOp::Shl(_) => vec![parse_quote!(>>)],
        BinOp::Shr(_) => vec![parse_quote!(<<)],
        BinOp::BitAnd(_) => vec![parse_quote!(|)],
        BinOp::BitOr(_) | BinOp::BitXor(_) => vec![parse_quote!(&)],
        BinOp::AddAssign(_) => vec![parse_quote!(-=)],
        BinOp::SubAssign(_) => vec![parse_quote!(+=)],
        BinOp::MulAssign(_) => vec![parse_quote!(/=)],
        BinOp::DivAssign(_) | BinOp::RemAssign(_) => vec![parse_quote!(*=)],
        BinOp::ShlAssign(_) => vec![parse_quote!(>>=)],
        BinOp::ShrAssign(_) => vec![parse_quote!(<<=)],
        BinOp::BitOrAssign(_) | BinOp::BitXorAssign(_) => vec![parse_quote!(&=)],
        BinOp::BitAndAssign(_) => vec![parse_quote!(|=)],
        _ => Vec::new(),
    }
}

/// Methods that say the opposite, or take the same and give the same type.
const METHODS: [(&str, &str); 6] = [
    ("is_some", "is_none"),
    ("is_ok", "is_err"),
    ("min", "max"),
    ("any", "all"),
    ("first", "last"),
    ("starts_with", "ends_with"),
];

/// Calls and functions that say how much memory to take: nobody sees whether it is more or less.
const ROOM: [&str; 6] = [
    "room",
    "with_capacity",
    "reserve",
    "try_reserve",
    "shrink_to",
    "shrink_to_fit",
];

fn is_about_room(expr: &Expr) -> bool {
    match expr {
        Expr::Try(tried) => is_about_room(&tried.expr),
        Expr::MethodCall(call) if call.method == "ok" || call.method == "map_err" => {
            is_about_room(&call.receiver)
        }
        Expr::MethodCall(call) => ROOM.iter().any(|name| call.method == name),
        Expr::Call(call) => match &*call.func {
            Expr::Path(path) => path
                .path
                .segments
                .last()
                .is_some_and(|last| ROOM.iter().any(|name| last.ident == name)),
            _ => false,
        },
        _ => false,
    }
}

/// Values of a type that a function can return at once.
fn values(output: &ReturnType) -> Vec<Expr> {
    let ReturnType::Type(_, ty) = output else {
        return vec![parse_quote!(())];
    };
    if let Type::Reference(reference) = &**ty {
        return match &*reference.elem {
            Type::Path(path) if path.path.is_ident("str") => vec![parse_quote!("")],
            _ => Vec::new(),
        };
    }
    let Type::Path(path) = &**ty else {
        return Vec::new();
    };
    let Some(last) = path.path.segments.last() else {
        return Vec::new();
    };
    match last.ident.to_string().as_str() {
        "bool" => vec![parse_quote!(true), parse_quote!(false)],
        "u8" | "u16" | "u32" | "u64" | "usize" | "i8" | "i16" | "i32" | "i64" | "isize"
        | "i128" | "u128" => {
            vec![parse_quote!(0), parse_quote!(1)]
        }
        "Option" => vec![parse_quote!(None)],
        "String" => vec![parse_quote!(String::new())],
        "Vec" => vec![parse_quote!(Vec::new())],
        "Result" if text(&last.arguments).starts_with("< ()") => vec![parse_quote!(Ok(()))],
        "Result" if text(&last.arguments).starts_with("< bool") => {
            vec![parse_quote!(Ok(true)), parse_quote!(Ok(false))]
        }
        "Result" if text(&last.arguments).starts_with("< Option") => vec![parse_quote!(Ok(None))],
        _ => Vec::new(),
    }
}

impl Flips {
    /// None of these, since they do not compile; they keep their numbers.
    pub fn without(unviable: BTreeSet<usize>) -> Flips {
        Flips {
            unviable,
            ..Flips::default()
        }
    }

    /// Puts mutants into a file of this name below `src/`.
    pub fn file(&mut self, name: &str, source: &str, file: &mut syn::File) {
        self.lines = source.lines().map(|line| line.trim().to_owned()).collect();
        name.clone_into(&mut self.file);
        self.visit_file_mut(file);
    }

    /// The condition under which a new mutant is alive; none if it does not compile.
    fn mutant(&mut self, span: Span, change: String) -> Option<Expr> {
        let number = self.mutants.len();
        let line = span.start().line;
        self.mutants.push(Mutant {
            file: self.file.clone(),
            line,
            function: self.function.clone(),
            text: self.lines.get(line - 1).cloned().unwrap_or_default(),
            change,
        });
        let n = u32::try_from(number).expect("not that many");
        (!self.unviable.contains(&number)).then(|| parse_quote!(crate::mutant::alive(#n)))
    }

    /// Puts alternatives before an expression.
    fn alternatives(&mut self, expr: &mut Expr, span: Span, all: Vec<(String, Expr)>) {
        for (change, other) in all {
            if let Some(alive) = self.mutant(span, change) {
                let old = expr.clone();
                *expr = parse_quote!((if #alive { (#other) } else { (#old) }));
            }
        }
    }

    /// A condition that has no operator to change is turned round.
    fn negate(&mut self, expr: &mut Expr) {
        let plain = match expr {
            Expr::Call(_) | Expr::Path(_) | Expr::Field(_) => true,
            Expr::MethodCall(call) => METHODS[..2]
                .iter()
                .all(|(a, b)| call.method != a && call.method != b),
            _ => false,
        };
        if plain && let Some(alive) = self.mutant(expr.span(), format!("not {}", text(&*expr))) {
            let old = expr.clone();
            *expr = parse_quote!((#alive != (#old)));
        }
    }

    fn function(&mut self, signature: &Signature, block: &mut Block) {
        let name = &signature.ident;
        if signature.constness.is_some() || ROOM.iter().any(|room| name == room) {
            return;
        }
        let outer = std::mem::replace(&mut self.function, name.to_string());
        visit_mut::visit_block_mut(self, block);
        for value in values(&signature.output) {
            let change = format!("returns {}", text(&value));
            if let Some(alive) = self.mutant(name.span(), change) {
                block
                    .stmts
                    .insert(0, parse_quote!(if #alive { return #value; }));
            }
        }
        self.function = outer;
    }
}

impl VisitMut for Flips {
    fn visit_item_mut(&mut self, item: &mut Item) {
        let attributes = match item {
            Item::Fn(item) => &item.attrs,
            Item::Mod(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Const(_)
            | Item::Static(_)
            | Item::Macro(_)
            | Item::Enum(_)
            | Item::Struct(_)
            | Item::Type(_)
            | Item::Use(_) => return,
            _ => return visit_mut::visit_item_mut(self, item),
        };
        if !is_for_tests(attributes) {
            visit_mut::visit_item_mut(self, item);
        }
    }

    fn visit_item_fn_mut(&mut self, item: &mut syn::ItemFn) {
        self.function(&item.sig, &mut item.block);
    }

    fn visit_impl_item_fn_mut(&mut self, item: &mut syn::ImplItemFn) {
        if !is_for_tests(&item.attrs) {
            self.function(&item.sig, &mut item.block);
        }
    }

    fn visit_impl_item_const_mut(&mut self, _: &mut syn::ImplItemConst) {}
    fn visit_trait_item_const_mut(&mut self, _: &mut syn::TraitItemConst) {}
    fn visit_expr_const_mut(&mut self, _: &mut syn::ExprConst) {}
    fn visit_type_mut(&mut self, _: &mut Type) {}
    fn visit_pat_mut(&mut self, _: &mut Pat) {}
    fn visit_attribute_mut(&mut self, _: &mut Attribute) {}
    fn visit_angle_bracketed_generic_arguments_mut(
        &mut self,
        _: &mut syn::AngleBracketedGenericArguments,
    ) {
    }

    fn visit_expr_repeat_mut(&mut self, repeat: &mut syn::ExprRepeat) {
        self.visit_expr_mut(&mut repeat.expr);
    }

    fn visit_expr_if_mut(&mut self, expr: &mut syn::ExprIf) {
        visit_mut::visit_expr_if_mut(self, expr);
        self.negate(&mut expr.cond);
    }

    fn visit_expr_while_mut(&mut self, expr: &mut syn::ExprWhile) {
        visit_mut::visit_expr_while_mut(self, expr);
        self.negate(&mut expr.cond);
    }

    fn visit_expr_match_mut(&mut self, expr: &mut syn::ExprMatch) {
        visit_mut::visit_expr_match_mut(self, expr);
        let takes_all = |arm: &Arm| match &arm.pat {
            _ if arm.guard.is_some() => false,
            Pat::Wild(_) => true,
            // `None` looks like a name too
            Pat::Ident(name) => {
                name.subpat.is_none() && !name.ident.to_string().starts_with(char::is_uppercase)
            }
            _ => false,
        };
        let Some(end) = expr.arms.iter().position(takes_all) else {
            return;
        };
        // what it takes when the arm is gone, another arm or the last may do just as well
        for arm in &mut expr.arms[..end] {
            if arm.guard.is_none()
                && let Some(alive) =
                    self.mutant(arm.pat.span(), format!("no arm {}", text(&arm.pat)))
            {
                arm.guard = Some((Default::default(), parse_quote!(!#alive)));
            }
        }
    }

    fn visit_arm_mut(&mut self, arm: &mut Arm) {
        let span = arm.guard.as_ref().map(|(_, guard)| guard.span());
        visit_mut::visit_arm_mut(self, arm);
        if let Some((_, guard)) = &mut arm.guard
            && !has_let(guard)
        {
            let all = ["true", "false"].map(|value| {
                let value: Expr = syn::parse_str(value).expect("a value");
                (format!("guard {}", text(&value)), value)
            });
            let span = span.expect("there is a guard");
            self.alternatives(guard, span, all.into());
        }
    }

    fn visit_stmt_mut(&mut self, stmt: &mut Stmt) {
        let pristine = stmt.clone();
        if let Stmt::Expr(expr, _) = &pristine
            && is_about_room(expr)
        {
            return;
        }
        visit_mut::visit_stmt_mut(self, stmt);
        let Stmt::Expr(expr, Some(_)) = pristine else {
            return;
        };
        let what = match &expr {
            Expr::Try(tried) => &*tried.expr,
            other => other,
        };
        let deletable = match what {
            Expr::MethodCall(_) | Expr::Call(_) => true,
            Expr::Macro(call) => !text(&call.mac.path).contains("assert"),
            Expr::Assign(assign) => !matches!(&*assign.left, Expr::Path(_) | Expr::Tuple(_)),
            _ => false,
        };
        if deletable && let Some(alive) = self.mutant(expr.span(), format!("no {}", text(&expr))) {
            let old = stmt.clone();
            *stmt = parse_quote!(if !#alive { #old });
        }
    }

    fn visit_expr_mut(&mut self, expr: &mut Expr) {
        if is_about_room(expr) {
            return;
        }
        let pristine = expr.clone();
        let span = match &pristine {
            Expr::Binary(binary) => binary.op.span(),
            Expr::MethodCall(call) => call.method.span(),
            other => other.span(),
        };
        visit_mut::visit_expr_mut(self, expr);
        let mut all = Vec::new();
        match &pristine {
            Expr::Binary(binary) if !has_let(&pristine) => {
                for op in others(&binary.op) {
                    let change = format!("{} -> {}", text(binary.op), text(op));
                    let mut other = ExprBinary {
                        op,
                        ..binary.clone()
                    };
                    if let Expr::Cast(_) = &*other.left {
                        let left = other.left;
                        // `a as u8 < b` would begin generic arguments
                        other.left = parse_quote!((#left));
                    }
                    all.push((change, Expr::Binary(other)));
                }
            }
            Expr::Unary(unary) if matches!(unary.op, UnOp::Not(_) | UnOp::Neg(_)) => {
                all.push((format!("no {}", text(unary.op)), (*unary.expr).clone()));
            }
            Expr::Lit(lit) => match &lit.lit {
                Lit::Bool(bool) => {
                    let other = !bool.value;
                    all.push((format!("{} -> {other}", bool.value), parse_quote!(#other)));
                }
                Lit::Int(int) => {
                    if let Ok(value) = int.base10_parse::<u128>() {
                        let other =
                            syn::LitInt::new(&format!("{}{}", value + 1, int.suffix()), int.span());
                        all.push((format!("{int} -> {other}"), parse_quote!(#other)));
                    }
                }
                _ => (),
            },
            Expr::MethodCall(call) => {
                for (a, b) in METHODS {
                    let to = match &call.method {
                        name if name == a => b,
                        name if name == b => a,
                        _ => continue,
                    };
                    let mut other = call.clone();
                    other.method = syn::Ident::new(to, call.method.span());
                    all.push((format!("{} -> {to}", call.method), Expr::MethodCall(other)));
                }
            }
            Expr::Macro(call) if call.mac.path.is_ident("matches") => {
                all.push(("no match".to_owned(), parse_quote!(!#pristine)));
            }
            _ => (),
        }
        if let (Expr::Binary(binary), true) = (
            &mut *expr,
            matches!(&pristine, Expr::Binary(b) if matches!(b.op, BinOp::And(_) | BinOp::Or(_))),
        ) {
            self.negate(&mut binary.left);
            self.negate(&mut binary.right);
        }
        self.alternatives(expr, span, all);
    }
}
