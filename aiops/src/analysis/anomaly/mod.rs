//! What is out of the ordinary.

pub mod dbscan;
pub mod iforest;
#[cfg(test)]
mod oracle_tests;
pub mod random;
pub mod season;

use super::leak::robust::whole;
