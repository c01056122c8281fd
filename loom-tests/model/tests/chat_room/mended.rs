use lightcone_model::loom::sync;

#[path = "chat.rs"]
pub(crate) mod chat;
#[path = "names.rs"]
pub(crate) mod names;
