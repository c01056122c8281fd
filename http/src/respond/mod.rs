//! Responses, and how they are formatted.

pub(crate) mod draft;
pub(crate) mod fields;
pub(crate) mod fixed;
pub(crate) mod response;
pub(crate) mod text;
