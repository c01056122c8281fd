//! Conformance, end-to-end and proof tests.
