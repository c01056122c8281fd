//! The Unix addresses of an engine: a table that assigns small ids to socket names.

use alloc::sync::Arc;
use core::fmt;
use std::sync::Mutex;

use lightcone_core::UnixId;

use crate::endpoint::Endpoint;
use crate::shared::locked;

/// The maximum number of Unix addresses that an engine remembers at once.
pub(crate) const UNIX_MAX: usize = 1 << PLACE_BITS;
/// The lower bits of an id, which are the index of its place. The upper bits are the generation.
const PLACE_BITS: u32 = 12;

/// One place of the table: a name and its usage.
#[derive(Debug)]
struct PathEntry {
    name: Endpoint,
    /// Counts the names that this place has held, modulo 16. The id of a forgotten name stays invalid while the place
    /// holds any of the next fifteen names.
    generation: u16,
    /// The number of listeners on this name.
    listeners: usize,
    /// The value of `PathTable::clock` at the last lookup.
    used: u64,
}

#[derive(Debug, Default)]
struct PathTable {
    places: Vec<PathEntry>,
    /// The number of lookups so far.
    clock: u64,
}

/// The most recently used names, with their ids. A name on which the engine listens is never forgotten.
#[derive(Debug, Default)]
pub(crate) struct UnixPaths(Mutex<PathTable>);

/// The error for a Unix address that an engine cannot remember, because it listens on as many as it can.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct UnixAddressesFull;

impl fmt::Display for UnixAddressesFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an engine can remember {UNIX_MAX} Unix addresses, and listens on all of them")
    }
}

/// Same as `Display`, because a `main` that returns the error prints its `Debug` form.
impl fmt::Debug for UnixAddressesFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for UnixAddressesFull {}

/// A guard that keeps a name from being forgotten.
#[derive(Debug)]
pub(crate) struct PathPin {
    paths: Arc<UnixPaths>,
    id: UnixId,
}

impl Drop for PathPin {
    fn drop(&mut self) {
        let mut places = locked(&self.paths.0);
        if let Some(place) = places.find(self.id) {
            place.listeners -= 1;
        }
    }
}

fn id_of(index: usize, generation: u16) -> Option<UnixId> {
    u16::try_from(index).ok().map(|index| UnixId(index | generation << PLACE_BITS))
}

impl PathTable {
    fn find(&mut self, id: UnixId) -> Option<&mut PathEntry> {
        let place = self.places.get_mut(usize::from(id.0) & (UNIX_MAX - 1))?;
        (place.generation == id.0 >> PLACE_BITS).then_some(place)
    }

    fn id(&mut self, name: &Endpoint) -> Option<UnixId> {
        self.clock += 1;
        let used = self.clock;
        if let Some((index, place)) =
            self.places.iter_mut().enumerate().find(|(_, place)| place.name == *name)
        {
            place.used = used;
            return id_of(index, place.generation);
        }
        let name = name.clone();
        if self.places.len() < UNIX_MAX {
            self.places.push(PathEntry { name, generation: 0, listeners: 0, used });
            return id_of(self.places.len() - 1, 0);
        }
        let free = self.places.iter_mut().enumerate().filter(|(_, place)| place.listeners == 0);
        let (index, place) = free.min_by_key(|(_, place)| place.used)?;
        let generation = (place.generation + 1) % (1 << (u16::BITS - PLACE_BITS));
        *place = PathEntry { name, generation, listeners: 0, used };
        id_of(index, generation)
    }
}

impl UnixPaths {
    /// Returns the id of a name. A new name replaces the least recently used one if the table is full. `None`: the
    /// engine listens on all names in the table.
    pub(crate) fn id(&self, name: &Endpoint) -> Option<UnixId> {
        locked(&self.0).id(name)
    }

    /// Looks a name up for a listener, and keeps it in the table while the guard exists.
    pub(crate) fn pin(self: &Arc<Self>, name: &Endpoint) -> Option<PathPin> {
        let mut places = locked(&self.0);
        let id = places.id(name)?;
        places.find(id)?.listeners += 1;
        Some(PathPin { paths: Arc::clone(self), id })
    }

    /// Returns the name of an id; `None` if the name has been forgotten or the id is invalid.
    pub(crate) fn name(&self, id: UnixId) -> Option<Endpoint> {
        let mut places = locked(&self.0);
        places.clock += 1;
        let used = places.clock;
        let place = places.find(id)?;
        place.used = used;
        Some(place.name.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> Endpoint {
        format!("unix:/tmp/{number}").parse().unwrap()
    }

    #[test]
    fn names_can_be_replaced_without_limit() {
        let paths = Arc::new(UnixPaths::default());
        let pin = paths.pin(&name(usize::MAX)).unwrap();
        let kept = paths.id(&name(0)).unwrap();
        let mut early = None;
        for number in 1..3 * UNIX_MAX {
            let id = paths.id(&name(number)).unwrap();
            assert_eq!(paths.name(id), Some(name(number)));
            early = early.or(Some(id));
            // A name in constant use is kept.
            assert_eq!(paths.name(kept), Some(name(0)), "forgotten after {number} others");
        }
        assert_eq!(paths.name(pin.id), Some(name(usize::MAX)), "a name with a listener is kept");
        assert_eq!(early.and_then(|id| paths.name(id)), None, "the id of a forgotten name is invalid");
        assert_eq!(paths.id(&name(1)).and_then(|id| paths.name(id)), Some(name(1)));
    }

    #[test]
    fn names_that_are_listened_at_stay() {
        let paths = Arc::new(UnixPaths::default());
        let mut pins: Vec<_> = (0..UNIX_MAX).map(|number| paths.pin(&name(number)).unwrap()).collect();
        let again = paths.pin(&name(5)).unwrap();
        assert_eq!(paths.id(&name(UNIX_MAX)), None);
        drop(pins.swap_remove(5));
        assert_eq!(paths.id(&name(UNIX_MAX)), None, "one of its two listeners remains");
        drop(again);
        assert!(paths.id(&name(UNIX_MAX)).is_some());
        assert!(paths.id(&name(UNIX_MAX + 1)).is_some(), "the same place again");
        assert_eq!(paths.id(&name(3)), id_of(3, 0));
    }
}
