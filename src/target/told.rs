//! Which members of the record a backfill cannot read, as changes and reads have told.
//!
//! A backfill sends null for a value of a type that it cannot read, and no message has the types of the source. Where a
//! column's own type does not tell (a `text` takes values of all types), the values of changes do: see [`Shapes`]. A read
//! that has a value tells that all nulls of the member are nulls.

#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};

use super::column::{Source, TargetColumn};
use crate::backfill::may_hold_unreadable;
use crate::backfill::shapes::Shapes;
use crate::json::Json;
use crate::mapping::members::reads_member;
use crate::message::{Action, Field, Message};

/// The most members that are looked at. Records of more members have no fixed columns.
const MOST: usize = 2000;

/// The members of the record that the mapping reads, and what their values have told.
#[derive(Default)]
pub struct Told {
    /// Members that columns of their own are read from, of types that take values of all types.
    named: HashSet<String>,
    /// Members that columns are read from whose own types a backfill cannot read.
    unreadable: HashSet<String>,
    /// Whether a column holds the whole record.
    whole: bool,
    /// The mapping's SQL.
    sql: Vec<String>,
    /// For each member of a record, whether the mapping reads it: the texts of SQL are searched once.
    read: HashMap<String, bool>,
    /// The members that values were seen of.
    members: HashMap<String, Shapes>,
    /// The members that the catalog has as unreadable.
    stored: HashSet<String>,
    /// Whether the catalog has been read.
    pub loaded: bool,
    /// The members of the last record in order, each with whether its values can still tell something.
    layout: Vec<(String, bool)>,
}

impl Told {
    /// Nothing is told yet of the members that these columns outside of the key, and this SQL, are read from.
    pub fn nothing(
        columns: &[TargetColumn],
        in_key: impl Fn(usize) -> bool,
        sql: Vec<String>,
    ) -> Told {
        let mut told = Told {
            sql,
            ..Told::default()
        };
        for (i, column) in columns.iter().enumerate() {
            told.whole |= column.document.is_some();
            if let Source::Field(name) = &column.source {
                if column.unreadable {
                    told.unreadable.insert(name.clone());
                } else if !in_key(i) && may_hold_unreadable(column.row.type_oid) {
                    told.named.insert(name.clone());
                }
            }
        }
        told
    }

    /// Whether values can tell something.
    pub fn listens(&self) -> bool {
        self.whole || !self.named.is_empty() || !self.sql.is_empty()
    }

    /// Forgets all that was told: it is read from the catalog again.
    pub fn forget(&mut self) {
        self.members.clear();
        self.stored.clear();
        self.layout.clear();
        self.loaded = false;
    }

    /// Takes over what the catalog has of a member.
    pub fn restore(&mut self, member: String, shapes: Shapes) {
        let known = self.members.entry(member.clone()).or_insert(Shapes::UNSEEN);
        *known = *known & shapes;
        if known.is_unreadable() {
            self.stored.insert(member);
        } else {
            self.stored.remove(&member);
        }
    }

    /// Takes over what the values of a message tell. Adds to `news` what the catalog must learn.
    pub fn listen(
        &mut self,
        message: &Message<'_>,
        fields: &[Field<'_>],
        news: &mut Vec<(String, Shapes)>,
    ) {
        for (position, field) in fields.iter().enumerate().take(MOST) {
            let known = self.layout.get(position);
            if known.is_none_or(|(key, _)| key != field.key) {
                self.learn(position, field.key);
            }
            // A value that an update does not repeat tells nothing.
            if self.layout[position].1
                && !field.value.is_null()
                && !field.value.is_string("unchanged_toast")
            {
                let by_read = message.action == Action::Read;
                self.layout[position].1 = self.take(field.key, by_read, field.value, news);
            }
        }
    }

    /// Takes over what a value of a member tells; returns whether further values can tell more.
    fn take(
        &mut self,
        member: &str,
        by_read: bool,
        value: Json<'_>,
        news: &mut Vec<(String, Shapes)>,
    ) -> bool {
        let shapes = match by_read {
            true => Shapes::READABLE,
            false => Shapes::of(value),
        };
        let known = match self.members.get_mut(member) {
            Some(known) => known,
            None => self
                .members
                .entry(member.to_owned())
                .or_insert(Shapes::UNSEEN),
        };
        *known = *known & shapes;
        let now = *known;
        if now.is_unreadable() && !self.stored.contains(member) {
            self.stored.insert(member.to_owned());
            news.push((member.to_owned(), now));
        } else if !now.is_unreadable() && self.stored.remove(member) {
            news.push((member.to_owned(), now));
        }
        now != Shapes::READABLE
    }

    fn learn(&mut self, position: usize, key: &str) {
        let read = match self.read.get(key) {
            Some(read) => *read,
            None if self.read.len() >= MOST => false,
            None => {
                let by_sql = || self.sql.iter().any(|sql| reads_member(sql, key));
                let read = self.whole || self.named.contains(key) || by_sql();
                self.read.insert(key.to_owned(), read);
                read
            }
        };
        let open = read && self.members.get(key) != Some(&Shapes::READABLE);
        let entry = (key.to_owned(), open);
        if position < self.layout.len() {
            self.layout[position] = entry;
        } else {
            self.layout.push(entry);
        }
    }

    /// Whether a backfill cannot read what a column of this source is read from.
    pub fn is_unreadable(&self, source: &Source) -> bool {
        let Source::Field(name) = source else {
            return false;
        };
        let told = self.members.get(name);
        self.unreadable.contains(name) || told.is_some_and(|shapes| shapes.is_unreadable())
    }

    /// Whether the field is the null of a read for a value that the backfill could not read.
    pub fn hides(&self, message: &Message<'_>, field: &Field<'_>) -> bool {
        message.action == Action::Read
            && field.value.is_null()
            && (self.unreadable.contains(field.key)
                || self
                    .members
                    .get(field.key)
                    .is_some_and(|shapes| shapes.is_unreadable()))
    }
}
