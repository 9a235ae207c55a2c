//! Any item, for property tests.
