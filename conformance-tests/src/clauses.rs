//! What the clauses say in a line each, for whoever sees a case fail: those of stores stand on
//! [`lock_core::Backend`], those for users in GUARANTEES.md.

const CLAUSES: &[(&str, &str)] = &[
    ("S1", "Each call is one atomic step of the store."),
    ("S2", "Repeating a call with the same claim repeats its outcome, with the same fence"),
    ("S3", "The store's clock decides expiry; no client's wall clock is ever written."),
    ("S4", "A foreign or stale token changes nothing."),
    ("S5", "The fence strictly rises per key and is drawn inside the acquiring step."),
    ("S6", "No policy sleep, retry, time-out or log inside."),
    ("S7", "Dropping a call leaves the store before or after the step"),
    ("S8", "Errors are classified: retryable only if repetition helps"),
    ("S9", "Unknown stored data is [`Corrupt`](crate::ErrorKind::Corrupt), never a panic."),
    ("S10", "`inspect`, `peek` and `list` write nothing; `purge` touches only the expired."),
    ("S11", "A lease never outlives what [`Lease`] said; renewing never revives the expired."),
    ("S12", "After an error nothing is held that was not held before."),
    ("G1", "While a guard says it is valid, no other guard of a conflicting mode says so"),
    ("G2", "Each acquisition's fence is higher than every earlier one of its key"),
    ("G3", "Validity never exceeds what the store promised"),
    ("G4", "At the deadline at the latest `is_valid()` is false and `lost()` has been woken"),
    ("G5", "within two round trips of a reachable store nothing is held, queued or leaked"),
    ("G6", "A waiter gets a free key within the wake-up bound of its backend"),
    ("G7", "`unlock` returns `Ok` for released, `Lost` if the lock was lost before"),
    ("G8", "An explicit owner may re-enter within one provider"),
    ("G9", "never alias when they differ in any byte"),
    ("G10", "An unknown URL scheme, query key or field of a configuration is an error"),
    ("G11", "No password in any `Debug`, `Display`, log, span, metric label or error"),
    ("G12", "Round trips, connections and requests stay within the budget of each backend"),
];

/// Returns a line for each of the `cited` clauses.
pub(crate) fn lines(cited: &str) -> String {
    let said = |name: &str| CLAUSES.iter().find(|(clause, _)| *clause == name);
    let lines = cited.split_whitespace().filter_map(said);
    lines.map(|(name, text)| format!("\n  {name}: {}", text.trim_end_matches('.'))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clauses_are_those_of_the_documents() {
        let trait_docs = include_str!("../../lock-core/src/backend.rs").replace("\n///  ", "");
        let documents = trait_docs + include_str!("../../GUARANTEES.md");
        for (name, text) in CLAUSES {
            assert!(documents.contains(text), "{name} says something else than {text:?}");
        }
    }

    #[test]
    fn each_clause_that_a_case_cites_is_told() {
        for case in crate::cases() {
            let told = lines(case.clauses).lines().count();
            assert_eq!(told, case.clauses.split_whitespace().count() + 1, "{}", case.name);
        }
    }
}
