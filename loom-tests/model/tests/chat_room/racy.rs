use lightcone_model::loom::sync;

#[path = "chat.rs"]
pub(crate) mod chat;
#[path = "names_racy.rs"]
pub(crate) mod names;
