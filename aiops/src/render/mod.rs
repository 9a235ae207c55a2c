//! Reports for people and programs: text in two languages, JSON, JSON lines.

pub mod escape;
