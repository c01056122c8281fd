//! As `names.rs`, with a race.

use std::collections::BTreeMap;

use lightcone_core::Token;

use super::sync::Mutex;

#[derive(Default)]
pub(crate) struct Names(Mutex<BTreeMap<Vec<u8>, Token>>);

impl Names {
    /// Takes a name, unless somebody has it.
    pub(crate) fn join(&self, name: &[u8], token: Token) -> bool {
        if self.of(name).is_some() {
            return false;
        }
        // here is the race: somebody on another poller may take it now
        self.0.lock().unwrap().insert(name.to_vec(), token);
        true
    }

    pub(crate) fn of(&self, name: &[u8]) -> Option<Token> {
        self.0.lock().unwrap().get(name).copied()
    }

    pub(crate) fn leave(&self, name: &[u8]) {
        self.0.lock().unwrap().remove(name);
    }
}
