//! Responses, and how they are formatted.

pub(crate) mod fields;
pub(crate) mod response;
pub(crate) mod template;
pub(crate) mod text;
pub(crate) mod writer;
