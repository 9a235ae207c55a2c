//! What a chore that runs many checks hands back.

/// Counts of checks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Checks that held.
    pub passed: u32,
    /// Checks that did not.
    pub failed: u32,
    /// Checks that could not run here; the reason was printed.
    pub skipped: u32,
}

impl Tally {
    /// Nothing but one check that could not run.
    pub(crate) fn skipped_one() -> Self {
        Self {
            skipped: 1,
            ..Self::default()
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            passed,
            failed,
            skipped,
        } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}
