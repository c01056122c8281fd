//! The Unix addresses of an engine: names by small numbers.

use alloc::sync::Arc;
use std::sync::Mutex;

use lightcone_core::UnixId;

use crate::endpoint::Endpoint;
use crate::shared::locked;

/// The most different Unix addresses that an engine remembers at once.
pub(crate) const UNIX_MAX: usize = 1 << PLACE_BITS;
const PLACE_BITS: u32 = 12;

/// A name, and how often its place was used.
#[derive(Debug)]
struct Place {
    name: Endpoint,
    /// In the upper bits of an id: an id that was forgotten is none for the next fifteen names of its place.
    generation: u16,
    /// How many listeners there are at this name.
    listeners: usize,
    /// When it was last asked for.
    used: u64,
}

#[derive(Debug, Default)]
struct Places {
    places: Vec<Place>,
    /// How often one was asked for.
    clock: u64,
}

/// The names that were used last, by the ids that stand for them. A name at which an engine listens is not forgotten.
#[derive(Debug, Default)]
pub(crate) struct UnixPaths(Mutex<Places>);

/// Keeps a name from being forgotten.
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

impl Places {
    fn find(&mut self, id: UnixId) -> Option<&mut Place> {
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
            self.places.push(Place { name, generation: 0, listeners: 0, used });
            return id_of(self.places.len() - 1, 0);
        }
        let free = self.places.iter_mut().enumerate().filter(|(_, place)| place.listeners == 0);
        let (index, place) = free.min_by_key(|(_, place)| place.used)?;
        let generation = (place.generation + 1) % (1 << (u16::BITS - PLACE_BITS));
        *place = Place { name, generation, listeners: 0, used };
        id_of(index, generation)
    }
}

impl UnixPaths {
    /// The id of a name. The name that was asked for longest ago is forgotten for it, if there are too many. `None`:
    /// all are listened at.
    pub(crate) fn id(&self, name: &Endpoint) -> Option<UnixId> {
        locked(&self.0).id(name)
    }

    /// The same for a listener, for as long as it is there.
    pub(crate) fn pin(self: &Arc<Self>, name: &Endpoint) -> Option<PathPin> {
        let mut places = locked(&self.0);
        let id = places.id(name)?;
        places.find(id)?.listeners += 1;
        Some(PathPin { paths: Arc::clone(self), id })
    }

    /// The name of an id. `None`: it was forgotten, or is none.
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
    fn names_come_and_go_for_ever() {
        let paths = Arc::new(UnixPaths::default());
        let pin = paths.pin(&name(usize::MAX)).unwrap();
        let kept = paths.id(&name(0)).unwrap();
        let mut early = None;
        for number in 1..3 * UNIX_MAX {
            let id = paths.id(&name(number)).unwrap();
            assert_eq!(paths.name(id), Some(name(number)));
            early = early.or(Some(id));
            // what is used is kept
            assert_eq!(paths.name(kept), Some(name(0)), "forgotten after {number} others");
        }
        assert_eq!(paths.name(pin.id), Some(name(usize::MAX)), "somebody listens there");
        assert_eq!(early.and_then(|id| paths.name(id)), None, "an id that was forgotten is no other's");
        assert_eq!(paths.id(&name(1)).and_then(|id| paths.name(id)), Some(name(1)));
    }

    #[test]
    fn names_that_are_listened_at_stay() {
        let paths = Arc::new(UnixPaths::default());
        let mut pins: Vec<_> = (0..UNIX_MAX).map(|number| paths.pin(&name(number)).unwrap()).collect();
        let again = paths.pin(&name(5)).unwrap();
        assert_eq!(paths.id(&name(UNIX_MAX)), None);
        drop(pins.swap_remove(5));
        assert_eq!(paths.id(&name(UNIX_MAX)), None, "one of its two listeners is there");
        drop(again);
        assert!(paths.id(&name(UNIX_MAX)).is_some());
        assert!(paths.id(&name(UNIX_MAX + 1)).is_some(), "the same place once more");
        assert_eq!(paths.id(&name(3)), id_of(3, 0));
    }
}
