//! What the suite does not show, and why.

/// Clauses that no case of this suite can check.
pub(crate) const CLAUSES_WITHOUT_CASE: &[(&str, &str)] =
    &[("G10", "URLs and configuration belong to the facade, which tests them itself")];

/// Cases that no seeded bug makes fail.
pub(crate) const CASES_WITHOUT_MUTANT: &[(&str, &str)] = &[
    ("guard::is_no_handle_on_a_session", "the model has no sessions"),
    ("reentry::is_not_in_another_mode", "the model has one mode only"),
    ("process::that_is_killed_frees_its_locks", "the model lives in one process"),
    ("process::that_was_frozen_knows_that_it_lost", "the model lives in one process"),
    ("process::that_dies_waiting_blocks_nobody", "the model lives in one process"),
    ("process::loops_share_a_lock", "the model lives in one process"),
];
