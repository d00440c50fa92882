//! Tests the suite: each seeded bug is caught by the cases that should catch it, and each case
//! catches one.

mod mutants {
    pub(crate) mod excuses;
    pub(crate) mod kills;
}
mod reference;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;

use conformance_tests::Case;
use conformance_tests::Fixture;
use conformance_tests::Verdict;
use conformance_tests::cases;
use conformance_tests::run_case;
use libtest_mimic::Arguments;
use libtest_mimic::Failed;
use libtest_mimic::Trial;

use mutants::excuses::CASES_WITHOUT_MUTANT;
use mutants::excuses::CATALOGUE_WITHOUT_CASE;
use mutants::excuses::CLAUSES_WITHOUT_CASE;
use mutants::kills::KILLS;
use reference::Flaw;
use reference::ModelStore;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // The cases mostly sleep.
    arguments.test_threads.get_or_insert(24);
    let mut trials = vec![
        Trial::test("completeness::names_are_unique_sentences", names_are_unique_sentences),
        Trial::test("completeness::cases_cite_known_clauses", cases_cite_known_clauses),
        Trial::test("completeness::every_clause_has_a_case", every_clause_has_a_case),
        Trial::test("completeness::the_catalogue_is_covered", the_catalogue_is_covered),
        Trial::test("completeness::every_case_kills_a_mutant", every_case_kills_a_mutant),
    ];
    trials.extend(
        KILLS.iter().map(|(flaw, by)| {
            Trial::test(format!("mutant::{flaw:?}"), move || is_caught(*flaw, by))
        }),
    );
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Each of the named cases must fail on a store with the flaw.
fn is_caught(flaw: Flaw, by: &[&str]) -> Result<(), Failed> {
    let fixture: Arc<dyn Fixture> = Arc::new(ModelStore::flawed(flaw));
    for name in by {
        let case = named(name)?;
        match run_case(case, &fixture) {
            Verdict::Failed(_) => {}
            other => return Err(format!("{name} did not notice {flaw:?}: {other:?}").into()),
        }
    }
    Ok(())
}

fn named(name: &str) -> Result<&'static Case, Failed> {
    cases().find(|case| case.name == name).ok_or_else(|| format!("there is no case {name}").into())
}

fn names_are_unique_sentences() -> Result<(), Failed> {
    let mut seen = BTreeSet::new();
    for case in cases() {
        let plain = |part: &str| part.bytes().all(|b| b == b'_' || b.is_ascii_lowercase());
        let parts = case.name.split_once("::");
        if !parts.is_some_and(|(group, sentence)| {
            plain(group) && plain(sentence) && !group.is_empty() && !sentence.is_empty()
        }) {
            return Err(format!("{} is no group::sentence", case.name).into());
        }
        if !seen.insert(case.name) {
            return Err(format!("{} is there twice", case.name).into());
        }
    }
    Ok(())
}

fn known_clauses() -> BTreeSet<String> {
    let numbered = |letter: &'static str| (1..=12).map(move |n| format!("{letter}{n}"));
    numbered("G").chain(numbered("S")).collect()
}

fn cases_cite_known_clauses() -> Result<(), Failed> {
    let known = known_clauses();
    for case in cases() {
        let unknown = case.clauses.split_whitespace().find(|clause| !known.contains(*clause));
        if case.clauses.is_empty() || unknown.is_some() {
            return Err(format!("{} cites {:?}", case.name, case.clauses).into());
        }
    }
    Ok(())
}

fn every_clause_has_a_case() -> Result<(), Failed> {
    let cited: BTreeSet<_> = cases().flat_map(|case| case.clauses.split_whitespace()).collect();
    let excused: BTreeSet<_> = CLAUSES_WITHOUT_CASE.iter().map(|(clause, _)| *clause).collect();
    for clause in known_clauses() {
        if cited.contains(&*clause) == excused.contains(&*clause) {
            return Err(format!("{clause} must have a case or an excuse, not both").into());
        }
    }
    Ok(())
}

/// Parts A to D have 18, 18, 14 and 11 numbers; later parts may be cited too.
fn the_catalogue_is_covered() -> Result<(), Failed> {
    let parts = [('A', 18), ('B', 18), ('C', 14), ('D', 11)];
    let cited: BTreeSet<_> = cases().flat_map(|case| case.catalogue.split_whitespace()).collect();
    let excused: BTreeSet<_> = CATALOGUE_WITHOUT_CASE.iter().map(|(number, _)| *number).collect();
    for (part, count) in parts {
        for number in (1..=count).map(|n| format!("{part}{n}")) {
            if cited.contains(&*number) == excused.contains(&*number) {
                return Err(format!("{number} must have a case or an excuse, not both").into());
            }
        }
    }
    Ok(())
}

fn every_case_kills_a_mutant() -> Result<(), Failed> {
    let killers: BTreeSet<_> = KILLS.iter().flat_map(|(_, by)| by.iter().copied()).collect();
    let excused: BTreeSet<_> = CASES_WITHOUT_MUTANT.iter().map(|(name, _)| *name).collect();
    let idle = cases().filter(|case| killers.contains(case.name) == excused.contains(case.name));
    let idle: Vec<_> = idle.map(|case| case.name).collect();
    if idle.is_empty() {
        return Ok(());
    }
    Err(format!("these must kill a mutant or have an excuse, not both: {idle:#?}").into())
}
