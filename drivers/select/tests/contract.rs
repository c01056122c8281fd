//! The contract suite: the rules of a readiness driver, over `select`.

lightcone_contract::tests!(lightcone_select::Select);
