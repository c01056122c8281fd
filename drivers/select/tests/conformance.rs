//! The engine over `select` keeps every promise.

lightcone_conformance::tests!(lightcone_select::Select);
