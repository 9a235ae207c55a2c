//! One file per command.

pub mod symbolize;
