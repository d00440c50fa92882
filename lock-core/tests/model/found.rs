//! Programs that failed once, and what they found.

use lock_memory::Call;
use lock_memory::When;

use super::program::Asked;
use super::program::Polls;
use super::program::Program;
use super::program::Step;
use super::program::Waits;
use super::program::ask;
use super::world::run;

fn passes(session: bool, steps: impl Into<Vec<Step>>) {
    run(&Program { session, steps: steps.into() }).unwrap_or_else(|wrong| panic!("{wrong}"));
}

#[test]
fn counted_attempts_stood_behind_others_without_counting() {
    passes(
        false,
        [
            Step::Lock(0, 0, Asked { ttl: 300, renews: false, ..ask() }),
            Step::Lock(1, 0, Asked { wait: Waits::Forever, ..ask() }),
            Step::Lock(1, 0, Asked { wait: Waits::Attempts(2, 100), ..ask() }),
            Step::Advance(700),
        ],
    );
}

#[test]
fn a_minimum_hold_on_a_session_ended_with_its_maximum() {
    let asked = Asked { min_hold: 2_000, max_hold: Some(800), ..ask() };
    passes(true, [Step::Lock(0, 0, asked), Step::DropGuard(0), Step::Advance(1_500)]);
}

#[test]
fn an_unlock_within_the_minimum_did_not_say_that_it_was_unconfirmed() {
    passes(
        false,
        [
            Step::Lock(0, 0, Asked { min_hold: 500, ttl: 60_000, ..ask() }),
            Step::FailAll(0),
            Step::Unlock(0, Polls::All),
            Step::Advance(11_000),
        ],
    );
}

#[test]
fn a_release_was_given_up_after_a_ttl_that_the_store_had_not_heard_of() {
    passes(
        false,
        [
            Step::Lock(0, 0, Asked { ttl: 60_000, ..ask() }),
            Step::Hang(0, Call::Keep, When::Before),
            Step::Extend(0, 300, Polls::All),
            Step::FailAll(0),
            Step::Advance(700),
        ],
    );
}

#[test]
fn a_hint_before_the_first_renewal_kept_renewals_from_starting() {
    passes(
        false,
        [
            Step::Lock(1, 1, Asked { ttl: 300, renews: false, ..ask() }),
            Step::Force(0, 1, false),
            Step::Lock(1, 0, Asked { ttl: 300, ..ask() }),
            Step::Advance(700),
        ],
    );
}

#[test]
fn a_minimum_was_begun_anew_by_an_answer_that_came_late() {
    passes(
        false,
        [
            Step::Lock(2, 0, Asked { ttl: 1000, min_hold: 500, renews: false, ..ask() }),
            Step::Delay(2, Call::Keep, When::Before, 400),
            Step::Advance(100),
            Step::Unlock(0, Polls::All),
            Step::Advance(700),
        ],
    );
}
