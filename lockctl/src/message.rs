//! What the processes of one `lockctl run` or `elect` tell each other, as frames of a fixed size.
//!
//! Orders go from the front to the keeper to the guardian, reports the other way; see
//! [`guardian`](crate::guardian) for who these are.

use std::io;

use lock::BootInstant;

/// The length of a frame: a tag and two numbers.
pub(crate) const FRAME: usize = 17;

/// A message between two processes of one `lockctl run` or `elect`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// Front to keeper, first of all, with the real standard input.
    Hello,
    /// Keeper to front: the lock is held; may the job start? A stopped front does not answer.
    Ready,
    /// Front to keeper: start it.
    Go,
    /// Keeper to guardian, first of all, with the real standard input: start the job.
    Start(Deadline),
    /// Keeper to guardian: the lock was renewed, or is lost.
    Renewed(Deadline),
    /// Front to keeper, keeper to guardian: pass this signal on to the job.
    Signal(i32),
    /// Guardian to keeper: the job runs in this process group.
    Started(i32),
    /// Guardian to keeper: the job could not be started, for this reason of the system.
    Refused(i32),
    /// Guardian to keeper, keeper to front: the job was stopped and may be continued. If it was for
    /// using a terminal that was not its own, this is the process group that wants it.
    Stopped(Option<i32>),
    /// Guardian to keeper: the job is dead, with all it left behind.
    Ended(Ending),
    /// Keeper to front: there is no job any more, and there may be another later.
    Idle,
}

/// Until when the job may run, on the boot clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deadline {
    /// When the job is asked to end.
    pub(crate) risk: BootInstant,
    /// When it is killed.
    pub(crate) end: BootInstant,
}

impl Deadline {
    /// The lock is gone already.
    pub(crate) const PAST: Self =
        Self { risk: BootInstant::from_nanos(0), end: BootInstant::from_nanos(0) };
}

/// How the job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    /// What it left for its parent.
    pub(crate) status: Status,
    /// Whether the guardian told it to end because of the lock.
    pub(crate) told: bool,
}

/// What a process leaves for its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// It returned this code.
    Exited(u8),
    /// This signal killed it.
    Killed(i32),
}

impl Message {
    /// Returns the frame.
    pub(crate) fn encode(self) -> [u8; FRAME] {
        let (tag, a, b) = match self {
            Self::Hello => (0, 0, 0),
            Self::Ready => (1, 0, 0),
            Self::Go => (2, 0, 0),
            Self::Start(deadline) => (3, deadline.risk.as_nanos(), deadline.end.as_nanos()),
            Self::Renewed(deadline) => (4, deadline.risk.as_nanos(), deadline.end.as_nanos()),
            Self::Signal(signal) => (5, bits(signal), 0),
            Self::Started(group) => (6, bits(group), 0),
            Self::Refused(errno) => (7, bits(errno), 0),
            Self::Stopped(wants_terminal) => (8, wants_terminal.map_or(0, bits), 0),
            Self::Ended(Ending { status: Status::Exited(code), told }) => {
                (9, u64::from(code), u64::from(told))
            }
            Self::Ended(Ending { status: Status::Killed(signal), told }) => {
                (10, bits(signal), u64::from(told))
            }
            Self::Idle => (11, 0, 0),
        };
        let mut frame = [0; FRAME];
        frame[0] = tag;
        frame[1..9].copy_from_slice(&u64::to_ne_bytes(a));
        frame[9..].copy_from_slice(&u64::to_ne_bytes(b));
        frame
    }

    /// Reads a frame.
    pub(crate) fn decode(frame: [u8; FRAME]) -> io::Result<Self> {
        let [a, b] = [number(&frame[1..9]), number(&frame[9..])];
        let deadline =
            Deadline { risk: BootInstant::from_nanos(a), end: BootInstant::from_nanos(b) };
        Ok(match frame[0] {
            0 => Self::Hello,
            1 => Self::Ready,
            2 => Self::Go,
            3 => Self::Start(deadline),
            4 => Self::Renewed(deadline),
            5 => Self::Signal(small(a)?),
            6 => Self::Started(small(a)?),
            7 => Self::Refused(small(a)?),
            8 => Self::Stopped(Some(small(a)?).filter(|group| *group != 0)),
            9 => Self::Ended(Ending { status: Status::Exited(small(a)?), told: b != 0 }),
            10 => Self::Ended(Ending { status: Status::Killed(small(a)?), told: b != 0 }),
            11 => Self::Idle,
            _ => return Err(io::ErrorKind::InvalidData.into()),
        })
    }
}

/// Signals, groups and reasons are never negative.
fn bits(number: i32) -> u64 {
    u64::from(number.unsigned_abs())
}

fn number(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(u64::MAX, u64::from_ne_bytes)
}

fn small<T: TryFrom<u64>>(number: u64) -> io::Result<T> {
    T::try_from(number).map_err(|_| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_survives_its_frame() {
        let deadline =
            Deadline { risk: BootInstant::from_nanos(7), end: BootInstant::from_nanos(u64::MAX) };
        let ended = |status, told| Message::Ended(Ending { status, told });
        for message in [
            Message::Hello,
            Message::Ready,
            Message::Go,
            Message::Start(deadline),
            Message::Renewed(Deadline::PAST),
            Message::Signal(15),
            Message::Started(i32::MAX),
            Message::Refused(2),
            Message::Stopped(Some(7)),
            Message::Stopped(None),
            Message::Idle,
            ended(Status::Exited(255), false),
            ended(Status::Killed(9), true),
        ] {
            assert_eq!(Message::decode(message.encode()).unwrap(), message);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(Message::decode([255; FRAME]).is_err());
        let mut frame = Message::Signal(1).encode();
        frame[1..9].fill(0xff);
        assert!(Message::decode(frame).is_err());
    }
}
