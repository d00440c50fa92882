//! When to do what to the job: pure, the caller passes in the time.

use lock::BootInstant;

use crate::message::Deadline;

/// What the guardian has to do to the job now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Ask it to end: SIGTERM.
    Ask,
    /// End it: SIGKILL.
    Kill,
}

/// The deadline in force and what has been done about it.
#[derive(Debug)]
pub(super) struct Plan {
    deadline: Deadline,
    done: Option<Step>,
}

impl Plan {
    pub(super) fn new(deadline: Deadline) -> Self {
        Self { deadline, done: None }
    }

    /// Takes a new deadline. A job that was asked to end stays asked, and what is lost stays lost.
    pub(super) fn renew(&mut self, deadline: Deadline) {
        if self.deadline != Deadline::PAST {
            self.deadline = deadline;
        }
    }

    /// Returns the step that is due and notes it as done.
    pub(super) fn due(&mut self, now: BootInstant) -> Option<Step> {
        let step = match self.done {
            Some(Step::Kill) => None,
            _ if now >= self.deadline.end => Some(Step::Kill),
            None if now >= self.deadline.risk => Some(Step::Ask),
            _ => None,
        };
        self.done = step.or(self.done);
        step
    }

    /// Returns when the next step is due.
    pub(super) fn next(&self) -> BootInstant {
        match self.done {
            None => self.deadline.risk.min(self.deadline.end),
            Some(Step::Ask) => self.deadline.end,
            Some(Step::Kill) => BootInstant::FAR,
        }
    }

    /// Tells whether the job was told to end because of the lock.
    pub(super) fn told(&self) -> bool {
        self.done.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> BootInstant {
        BootInstant::from_nanos(nanos)
    }

    fn deadline(risk: u64, end: u64) -> Deadline {
        Deadline { risk: at(risk), end: at(end) }
    }

    #[test]
    fn asks_at_the_risk_and_kills_at_the_end_once_each() {
        let mut plan = Plan::new(deadline(10, 20));
        assert_eq!((plan.due(at(9)), plan.next()), (None, at(10)));
        assert_eq!((plan.due(at(10)), plan.next()), (Some(Step::Ask), at(20)));
        assert_eq!((plan.due(at(19)), plan.told()), (None, true));
        assert_eq!((plan.due(at(20)), plan.next()), (Some(Step::Kill), BootInstant::FAR));
        assert_eq!(plan.due(at(21)), None);
    }

    #[test]
    fn a_renewal_moves_both() {
        let mut plan = Plan::new(deadline(10, 20));
        plan.renew(deadline(30, 40));
        assert_eq!((plan.due(at(29)), plan.next()), (None, at(30)));
        assert!(!plan.told());
    }

    #[test]
    fn a_renewal_after_asking_moves_only_the_end() {
        let mut plan = Plan::new(deadline(10, 20));
        assert_eq!(plan.due(at(15)), Some(Step::Ask));
        plan.renew(deadline(30, 40));
        assert_eq!((plan.due(at(35)), plan.told()), (None, true));
        assert_eq!(plan.due(at(40)), Some(Step::Kill));
    }

    #[test]
    fn a_lost_lock_and_a_late_look_kill_without_asking() {
        let mut plan = Plan::new(deadline(10, 20));
        plan.renew(Deadline::PAST);
        plan.renew(deadline(30, 40));
        assert_eq!(plan.due(at(1)), Some(Step::Kill));
        assert_eq!(Plan::new(deadline(10, 20)).due(at(25)), Some(Step::Kill));
    }
}
