//! The mappings of the database. The backend keeps them until a mapping, or an object that a mapping
//! depends on, changes.

#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Deref;

use pgrx::pg_sys;

use crate::dead_letter::presence::{Presence, announced};
use crate::destination::Destination;
use crate::error::Error;
use crate::error::SqlError;
use crate::guard::rekey;
use crate::mapping::beside::Beside;
use crate::mapping::catalog::{self, Mapped};
use crate::mapping::{Mapping, Mode, OnDelete};
use crate::pg::invalidation;
use crate::pg::keys::role_name;
use crate::pg::user::{begin_call, is_superuser, may_act_as, role_exists};
use crate::route::Router;
use crate::settings;
use crate::stop::Stop;
use crate::target::Target;

/// The mappings, their router, and the targets made ready so far.
pub struct Registry {
    /// Every mapping, in the order of the ids.
    pub mappings: Vec<Mapping>,
    /// Finds the mappings of a message.
    pub router: Router,
    /// The tables that mappings write and delete from.
    pub mapped: Mapped,
    /// The mappings (by id) with a resync in progress.
    pub resyncing: Vec<i32>,
    /// The mappings and tables with dead letters, as of the last [`Self::see_letters`].
    pub letters: Presence,
    /// The OID of `sequin.mapping`.
    pub relation: pg_sys::Oid,
    announced: pg_sys::Oid,
    letters_changed: bool,
    beside: Beside,
    /// By the mapping's id.
    ready: HashMap<i32, Ready>,
    uses: u64,
}

/// A target that is ready, with its plans.
struct Ready {
    target: Target,
    /// The number of the last use.
    used: u64,
    /// How many bytes it takes.
    memory: usize,
}

thread_local! {
    static KEPT: RefCell<Option<Registry>> = const { RefCell::new(None) };
}

impl Registry {
    /// Takes the registry out, up to date with the catalog. Until it is given back, a call from inside (a
    /// trigger that applies messages) loads a registry of its own.
    pub fn take() -> Result<Registry, SqlError> {
        invalidation::watch();
        begin_call();
        let kept = KEPT.take();
        let changed = invalidation::changed();
        match kept {
            Some(mut registry) if !changed.contains(registry.relation) => {
                registry.forget(&changed);
                Ok(registry)
            }
            _ => Self::load(),
        }
    }

    fn load() -> Result<Registry, SqlError> {
        let relation = catalog::relation();
        invalidation::pick(relation);
        invalidation::pick(announced());
        let mappings = catalog::load()?;
        let router = Router::new(&mappings);
        let mapped = mappings
            .iter()
            .filter(|m| m.mode == Mode::Upsert && m.on_delete == OnDelete::Delete)
            .filter_map(|mapping| mapping.destination_oid())
            .collect();
        Ok(Registry {
            mapped: Mapped::new(mapped),
            mappings,
            router,
            resyncing: catalog::resyncing(),
            letters: Presence::load()?,
            relation,
            announced: announced(),
            letters_changed: false,
            beside: Beside::default(),
            ready: HashMap::new(),
            uses: 0,
        })
    }

    /// Keeps the registry for the next call.
    pub fn give_back(mut self) {
        self.trim();
        // If a call from inside has given back a registry in the meantime, that registry is newer and
        // stays.
        KEPT.with_borrow_mut(|kept| {
            kept.get_or_insert(self);
        });
    }

    /// Loads the presence of dead letters again if letters have changed since the last look.
    pub fn see_letters(&mut self) -> Result<(), SqlError> {
        if self.letters_changed || invalidation::has_changed(self.announced) {
            self.letters = Presence::load()?;
            self.letters_changed = false;
        }
        Ok(())
    }

    /// The id of the mapping of this name.
    pub fn id_of(&self, name: Option<&str>) -> Option<i32> {
        let mut mappings = self.mappings.iter();
        mappings
            .find(|mapping| Some(&*mapping.name) == name)
            .map(|mapping| mapping.id)
    }

    fn forget(&mut self, changed: &invalidation::Changed) {
        self.letters_changed |= changed.contains(self.announced);
        if !changed.is_empty() {
            self.beside.forget();
            self.ready
                .retain(|_, ready| !ready.target.depends_on.iter().any(|o| changed.contains(*o)));
        }
    }

    /// Takes the target of a mapping. Locks the destination as a write does, so that its definition stays
    /// the same until the transaction ends. `exclusive`: whether the call has the exclusive lock on the mapping.
    pub fn target(&mut self, index: usize, exclusive: bool) -> Result<Target, Stop> {
        let mapping = &self.mappings[index];
        let (id, destination) = (mapping.id, mapping.destination);
        let oid = pg_sys::Oid::from(destination.expect("null destinations are not written"));
        invalidation::lock(oid);
        let changed = invalidation::changed();
        self.forget(&changed);
        if changed.contains(self.relation) {
            invalidation::note(self.relation);
            return Err(Stop::RELOAD);
        }
        if !role_exists(self.mappings[index].owner_oid()) {
            let error = owner_gone(&self.mappings[index]);
            return Err(error.of_mapping(id).into());
        }
        if let Some(mut ready) = self.ready.remove(&id)
            && ready.target.has_its_owner()
        {
            return Ok(ready.target);
        }
        let mapping = &self.mappings[index];
        let target = Target::make(mapping, &mut self.beside).unwrap_or_else(|| Err(gone(mapping)));
        let target = target.map_err(|error| error.of_mapping(id))?;
        match rekey::settle(mapping, &target.destination, exclusive) {
            Ok(_) => Ok(target),
            Err(Stop::Failed(error)) => Err(error.of_mapping(id).into()),
            Err(again) => Err(again),
        }
    }

    /// The registry as if it had only the mappings whose owner's rights the role has, if one is given: the call locks
    /// no others.
    pub fn showing(&mut self, role: Option<pg_sys::Oid>) -> Showing<'_> {
        let all = role.map(|role| {
            let all = self.mappings.iter();
            let shown = all.filter(|mapping| may_act_as(role, mapping.owner_oid()));
            let shown = shown.cloned().collect();
            std::mem::replace(&mut self.mappings, shown)
        });
        Showing {
            registry: self,
            all,
        }
    }

    /// Puts a mapping back, ready for the next call.
    pub fn put_back(&mut self, target: Target) {
        self.uses += 1;
        let ready = Ready {
            used: self.uses,
            memory: target.memory(),
            target,
        };
        self.ready.insert(ready.target.mapping.id, ready);
    }

    /// Drops the least recently used targets if they take more than `sequin.cache_size`. To make one ready again takes
    /// about a millisecond.
    fn trim(&mut self) {
        let most = settings::cache_size();
        let all: usize = self.ready.values().map(|ready| ready.memory).sum();
        if all <= most {
            return;
        }
        let mut uses: Vec<(u64, usize)> = self
            .ready
            .values()
            .map(|ready| (ready.used, ready.memory))
            .collect();
        uses.sort_unstable_by(|a, b| b.cmp(a));
        let mut kept = 0;
        let fit = uses.iter().take_while(|(_, memory)| {
            kept += memory;
            kept <= most
        });
        let oldest = fit.last().map_or(u64::MAX, |(used, _)| *used);
        self.ready.retain(|_, ready| ready.used >= oldest);
    }
}

/// A registry that shows some of its mappings: see [`Registry::showing`].
pub struct Showing<'r> {
    registry: &'r mut Registry,
    all: Option<Vec<Mapping>>,
}

impl Deref for Showing<'_> {
    type Target = Registry;

    fn deref(&self) -> &Registry {
        self.registry
    }
}

impl Drop for Showing<'_> {
    fn drop(&mut self) {
        if let Some(all) = self.all.take() {
            self.registry.mappings = all;
        }
    }
}

/// The owner was dropped. The owner of the destination may become the owner of the mapping.
pub fn owner_gone(mapping: &Mapping) -> SqlError {
    let destination = mapping.destination_oid().and_then(Destination::load);
    let other = destination.map(|destination| destination.owner);
    Error::OwnerGone {
        mapping: mapping.name.clone(),
        source: mapping.source.to_string(),
        other: other.and_then(role_name),
        needs_grant: !other.is_some_and(is_superuser),
    }
    .into()
}

/// The destination was dropped.
pub fn gone(mapping: &Mapping) -> SqlError {
    Error::DestinationGone {
        mapping: mapping.name.clone(),
    }
    .into()
}
