//! A socket between two processes of lockctl, each end known to one process only.
//!
//! The child finds its end as its standard input, because that is the one descriptor that can be
//! taken over without unsafe code; the real standard input travels over the socket. The end of the
//! stream is the news that the other process is gone, however it died.

use std::fs::File;
use std::io;
use std::io::IoSlice;
use std::io::IoSliceMut;
use std::io::Read as _;
use std::io::Write as _;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use rustix::cmsg_space;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::poll;
use rustix::io::Errno;
use rustix::net::RecvAncillaryBuffer;
use rustix::net::RecvAncillaryMessage;
use rustix::net::RecvFlags;
use rustix::net::SendAncillaryBuffer;
use rustix::net::SendAncillaryMessage;
use rustix::net::SendFlags;
use rustix::net::recvmsg;
use rustix::net::sendmsg;
use rustix::stdio::dup2_stdin;
use rustix::time::Timespec;
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::mpsc::unbounded_channel;

use crate::message::FRAME;
use crate::message::Message;

/// One end of the socket.
#[derive(Debug)]
pub(crate) struct Channel(UnixStream);

impl Channel {
    /// Makes a socket and returns our end and the child's.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = UnixStream::pair()?;
        Ok((Self(ours), theirs.into()))
    }

    /// Takes over the end that the parent left as standard input.
    pub(crate) fn from_stdin() -> io::Result<Self> {
        let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        dup2_stdin(File::open("/dev/null")?)?;
        Ok(Self(stream))
    }

    /// Sends a message. It never waits long: a frame is a few bytes and the other side reads.
    pub(crate) fn send(&self, message: Message) -> io::Result<()> {
        (&self.0).write_all(&message.encode())
    }

    /// Sends a message with a descriptor.
    pub(crate) fn send_with(&self, message: Message, fd: BorrowedFd<'_>) -> io::Result<()> {
        let fds = [fd];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let frame = message.encode();
        let sent = sendmsg(&self.0, &[IoSlice::new(&frame)], &mut control, SendFlags::NOSIGNAL)?;
        if sent == FRAME { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Waits for a message; `None` says that the other process is gone.
    pub(crate) fn receive(&self) -> io::Result<Option<Message>> {
        let mut frame = [0; FRAME];
        match (&self.0).read_exact(&mut frame) {
            Ok(()) => Message::decode(frame).map(Some),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Tells whether [`receive`](Self::receive) has something to return at once.
    pub(crate) fn has_news(&self) -> bool {
        let mut fds = [PollFd::new(self, PollFlags::IN)];
        loop {
            match poll(&mut fds, Some(&Timespec::default())) {
                Err(Errno::INTR) => {}
                ready => return ready.is_ok_and(|ready| ready > 0),
            }
        }
    }

    /// Waits for a message that comes with a descriptor.
    pub(crate) fn receive_with(&self) -> io::Result<(Message, OwnedFd)> {
        let mut frame = [0; FRAME];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut frame)];
        let got = recvmsg(&self.0, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let fd = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        match fd {
            Some(fd) if got.bytes == FRAME => Ok((Message::decode(frame)?, fd)),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Reads all further messages in a task of the runtime. The end of the queue says that the
    /// other process is gone. From then on sending never waits.
    pub(crate) fn messages(&self) -> io::Result<UnboundedReceiver<Message>> {
        self.0.set_nonblocking(true)?;
        let mut stream = tokio::net::UnixStream::from_std(self.0.try_clone()?)?;
        let (sender, receiver) = unbounded_channel();
        tokio::spawn(async move {
            let mut frame = [0; FRAME];
            while stream.read_exact(&mut frame).await.is_ok() {
                let Ok(message) = Message::decode(frame) else { break };
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
        Ok(receiver)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A peer that died with our bytes unread resets the socket instead of ending it.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_travels_with_its_message() {
        let (ours, theirs) = Channel::pair().unwrap();
        let theirs = Channel(theirs.into());
        let (mut reader, writer) = io::pipe().unwrap();
        ours.send_with(Message::Hello, writer.as_fd()).unwrap();
        drop(writer);
        let (message, fd) = theirs.receive_with().unwrap();
        assert_eq!(message, Message::Hello);
        File::from(fd).write_all(b"x").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
    }

    #[test]
    fn a_message_without_its_descriptor_is_refused() {
        let (ours, theirs) = Channel::pair().unwrap();
        ours.send(Message::Hello).unwrap();
        assert!(Channel(theirs.into()).receive_with().is_err());
    }

    #[test]
    fn the_end_of_the_other_process_is_no_message() {
        let (ours, theirs) = Channel::pair().unwrap();
        drop(ours);
        assert_eq!(Channel(theirs.into()).receive().unwrap(), None);
        let (ours, theirs) = Channel::pair().unwrap();
        ours.send(Message::Ready).unwrap();
        drop(theirs);
        assert_eq!(ours.receive().unwrap(), None);
    }
}
