//! The conformance suite: complete engines over `select`.

lightcone_conformance::tests!(lightcone_select::Select);
