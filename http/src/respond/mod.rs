//! Responses, and how they are formatted.

pub(crate) mod asset;
pub(crate) mod cookie;
pub(crate) mod fields;
pub(crate) mod location;
pub(crate) mod range;
pub(crate) mod representation;
pub(crate) mod response;
pub(crate) mod template;
pub(crate) mod text;
pub(crate) mod validators;
pub(crate) mod writer;
