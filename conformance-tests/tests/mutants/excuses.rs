//! What the suite does not show, and why.

/// Clauses that no case of this suite can check.
pub(crate) const CLAUSES_WITHOUT_CASE: &[(&str, &str)] =
    &[("G10", "URLs and configuration belong to the facade, which tests them itself")];

/// Cases that no seeded bug makes fail.
pub(crate) const CASES_WITHOUT_MUTANT: &[(&str, &str)] = &[];
