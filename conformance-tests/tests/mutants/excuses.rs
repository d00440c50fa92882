//! What the suite does not show, and why.

/// Clauses that no case of this suite can check.
pub(crate) const CLAUSES_WITHOUT_CASE: &[(&str, &str)] =
    &[("G10", "URLs and configuration belong to the facade, which tests them itself")];

/// Cases that no seeded bug makes fail.
pub(crate) const CASES_WITHOUT_MUTANT: &[(&str, &str)] = &[
    ("guard::is_no_handle_on_a_session", "the model has no sessions"),
    ("process::that_is_killed_frees_its_locks", "the model lives in one process"),
    ("process::that_was_frozen_knows_that_it_lost", "the model lives in one process"),
    ("process::that_dies_waiting_blocks_nobody", "the model lives in one process"),
    ("process::loops_share_a_lock", "the model lives in one process"),
    (
        "fleet::of_fair_waiters_keeps_its_order_though_heads_are_killed",
        "the model lives in one process",
    ),
    ("fleet::of_readers_and_writers_is_sound", "the model lives in one process"),
    ("fleet::of_permit_holders_is_sound_though_some_are_killed", "the model lives in one process"),
    ("many::of_crossing_processes_are_exact", "the model lives in one process"),
];

/// Numbers of parts A to D of the catalogue that no case of this suite has, and why.
pub(crate) const CATALOGUE_WITHOUT_CASE: &[(&str, &str)] = &[
    ("A3", "a hash collision is Postgres's alone, and tested there"),
    ("B10", "a server's clock can be stepped by its own fixture only"),
    ("B11", "a server's clock can be stepped by its own fixture only"),
    ("B12", "no client clock is written; stepping this machine's would hurt other programs"),
    ("B13", "two rates of one clock need a virtual one: the core tests its arithmetic"),
    ("B14", "a suspend needs a virtual clock: the core tests it"),
    ("B16", "a row lock is MySQL's alone"),
    ("B17", "time zones are MySQL's alone"),
    ("C5", "statement time-outs are Postgres's alone"),
];
