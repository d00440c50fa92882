//! One row's way to lock: ours, or one of those it stands beside.

use crate::failure::Failure;
use crate::failure::Outcome;
use crate::order::Post;
use crate::ours::Ours;
use crate::seat::Desk;
use crate::seat::Seat;
use crate::subject::Rival;
use crate::subject::Subject;

/// A way to lock.
#[derive(Clone, Copy)]
pub(crate) enum Lane {
    Ours { fair: bool },
    Rival(&'static Rival),
}

impl Lane {
    /// All that a table compares, ours first.
    pub(crate) fn all(subject: &'static Subject, fair: bool) -> Vec<Self> {
        let ours = [Self::Ours { fair: false }].into_iter();
        let fair = fair.then_some(Self::Ours { fair: true });
        let rivals = subject.bare.iter().chain(subject.peers);
        ours.chain(fair).chain(rivals.map(Self::Rival)).collect()
    }

    pub(crate) fn find(subject: &'static Subject, name: &str) -> Outcome<Self> {
        let found = Self::all(subject, true).into_iter().find(|lane| lane.name() == name);
        found.ok_or_else(|| Failure::new(format!("{} has no lane {name:?}", subject.name)))
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Ours { fair: false } => "ours",
            Self::Ours { fair: true } => "ours, fair",
            Self::Rival(rival) => rival.name,
        }
    }

    pub(crate) fn is_ours(&self) -> bool {
        matches!(self, Self::Ours { .. })
    }

    /// Opens a client; nothing if the backend lacks what the lane asks for.
    pub(crate) async fn open(&self, post: &Post) -> Outcome<Option<Box<dyn Seat>>> {
        match self {
            Self::Ours { fair } => {
                let ours = Ours::open(post, *fair).await?;
                Ok((!fair || ours.has_fair()).then(|| Box::new(Desk::new(ours)) as _))
            }
            Self::Rival(rival) => (rival.open)(post).await.map(Some),
        }
    }
}
