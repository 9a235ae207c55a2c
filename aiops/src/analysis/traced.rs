//! What the trace of one family of hooks came to, live or replayed.

use crate::model::Session;
use crate::report::Accounting;
use crate::report::Finding;

/// The parts of its report that items tell.
#[derive(Debug)]
pub struct Traced<D> {
    /// The report's data.
    pub data: D,
    /// What it means.
    pub findings: Vec<Finding>,
    /// How complete it is.
    pub accounting: Accounting,
    /// Who observed.
    pub session: Session,
}
