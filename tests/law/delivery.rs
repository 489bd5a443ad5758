//! Orders and splits: what becomes of messages on their way.

use std::collections::BTreeSet;

use support::Random;

/// Calls, each with the messages that it brings, by their place in commit order. One without messages is
/// `sequin.retry()`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Delivery(pub Vec<Vec<usize>>);

impl Delivery {
    /// A message is `m` with its number.
    pub fn text(&self) -> String {
        let calls: Vec<_> = self.0.iter().map(|call| call_text(call)).collect();
        calls.join(" ")
    }

    /// The delivery of which [`Self::text`] gives this text.
    pub fn parsed(text: &str) -> Delivery {
        let number = |message: &str| message.trim_start_matches('m').parse().expect("a message");
        let calls = text.split_terminator(']').map(|call| {
            let call = call.trim_start().trim_start_matches('[');
            call.split_whitespace().map(number).collect()
        });
        Delivery(calls.collect())
    }

    /// How far it is from one call in commit order: what is simpler is smaller.
    pub fn difficulty(&self) -> (usize, usize) {
        let order: Vec<usize> = self.0.iter().flatten().copied().collect();
        let inversions = (0..order.len())
            .flat_map(|i| (0..i).map(move |j| (j, i)))
            .filter(|&(j, i)| order[j] > order[i])
            .count();
        (self.0.len(), inversions)
    }
}

fn call_text(call: &[usize]) -> String {
    let messages: Vec<_> = call.iter().map(|m| format!("m{m}")).collect();
    format!("[{}]", messages.join(" "))
}

/// How many deliveries of `n` messages there are, if that is not more than `limit`.
fn count(n: usize, limit: usize) -> Option<usize> {
    let mut count = 1_usize;
    for i in 1..=n {
        count = count.checked_mul(i)?;
        if i > 1 {
            count = count.checked_mul(2)?;
        }
        if count > limit {
            return None;
        }
    }
    Some(count)
}

/// Cuts an order after each place whose bit is set.
fn cut(order: &[usize], cuts: impl Fn(usize) -> bool) -> Delivery {
    let mut calls = vec![Vec::new()];
    for (place, &message) in order.iter().enumerate() {
        calls.last_mut().expect("a call").push(message);
        if place + 1 < order.len() && cuts(place) {
            calls.push(Vec::new());
        }
    }
    Delivery(calls)
}

fn permutations(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![Vec::new()];
    }
    let shorter = permutations(n - 1);
    shorter
        .iter()
        .flat_map(|order| {
            (0..n).map(move |place| {
                let mut order = order.clone();
                order.insert(place, n - 1);
                order
            })
        })
        .collect()
}

/// All orders and splits of the messages, if they are not more than `limit`; else some, among them the plain ones.
/// `transactions` has the transaction of each message.
pub fn deliveries(transactions: &[usize], limit: usize, random: &mut Random) -> BTreeSet<Delivery> {
    let n = transactions.len();
    if count(n, limit).is_some() {
        let splits = 1_usize << n.saturating_sub(1);
        return permutations(n)
            .iter()
            .flat_map(|order| {
                (0..splits).map(move |split| cut(order, |place| split >> place & 1 == 1))
            })
            .collect();
    }
    let order: Vec<usize> = (0..n).collect();
    let reverse: Vec<usize> = order.iter().rev().copied().collect();
    let mut some = BTreeSet::from([
        cut(&order, |_| false),
        cut(&order, |_| true),
        cut(&order, |place| {
            transactions[place] != transactions[place + 1]
        }),
        cut(&reverse, |_| false),
        cut(&reverse, |_| true),
    ]);
    while some.len() < limit {
        some.insert(any(n, random));
    }
    some
}

/// Some order, with some split.
pub fn any(n: usize, random: &mut Random) -> Delivery {
    let mut order: Vec<usize> = (0..n).collect();
    random.shuffle(&mut order);
    let often = 1 + random.below(4);
    let cuts: Vec<bool> = order.iter().map(|_| random.below(5) < often).collect();
    cut(&order, |place| cuts[place])
}
