//! The taken names, for the handlers of all pollers.

use std::collections::BTreeMap;

use lightcone_core::Token;

use super::sync::Mutex;

#[derive(Default)]
pub(crate) struct Names(Mutex<BTreeMap<Vec<u8>, Token>>);

impl Names {
    /// Takes a name. Returns `false` if it is taken already.
    pub(crate) fn join(&self, name: &[u8], token: Token) -> bool {
        let mut names = self.0.lock().unwrap();
        if names.contains_key(name) {
            return false;
        }
        names.insert(name.to_vec(), token);
        true
    }

    pub(crate) fn of(&self, name: &[u8]) -> Option<Token> {
        self.0.lock().unwrap().get(name).copied()
    }

    pub(crate) fn leave(&self, name: &[u8]) {
        self.0.lock().unwrap().remove(name);
    }
}
