//! The workers of one lane, as the benchmark sees them: a row of seats, in one process or in several.

use std::env;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tempfile::TempDir;
use tokio::io::AsyncBufReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::io::BufReader;
use tokio::process::Child;
use tokio::process::ChildStdin;
use tokio::process::ChildStdout;
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio::time::timeout;

use crate::failure::Failure;
use crate::failure::Outcome;
use crate::lane::Lane;
use crate::order::Gauge;
use crate::order::Line;
use crate::order::Order;
use crate::order::POST;
use crate::order::Post;
use crate::order::Reply;
use crate::order::Requests;
use crate::order::Usage;
use crate::scenario::Setup;
use crate::store::Load;
use crate::store::Probe;
use crate::store::Store;
use crate::subject::Subject;
use crate::tally::Tally;

/// How long a worker may take besides the time that its order lasts, or a server, on a machine that is very busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// The workers of one lane, with a store of their own. Dropping them ends the processes.
pub(crate) struct Crew {
    seats: Vec<Link>,
    processes: Vec<Child>,
    probe: Option<Box<dyn Probe>>,
    /// What each process is told, and how many there are.
    post: Post,
    count: usize,
    // Before its folder, so that a server ends first.
    _store: Store,
    _folder: TempDir,
}

/// The line to one seat.
struct Link {
    seat: usize,
    orders: Arc<Mutex<ChildStdin>>,
    replies: Mutex<mpsc::UnboundedReceiver<Reply>>,
}

impl Crew {
    /// Starts the workers of `lane`; nothing if the backend lacks what the lane asks for.
    pub(crate) async fn start(
        subject: &Subject,
        lane: Lane,
        setup: &Setup,
        stores: &std::path::Path,
    ) -> Outcome<Option<Self>> {
        let folder = tempfile::Builder::new().prefix(subject.name).tempdir_in(stores)?;
        let store = timeout(PATIENCE, (subject.store)(folder.path().to_owned())).await??;
        let count = if subject.has_processes { setup.seats } else { 1 };
        let post = Post {
            subject: subject.name.to_owned(),
            lane: lane.name().to_owned(),
            url: store.url.clone(),
            seats: setup.seats / count,
            ttl: setup.ttl,
            gauge: setup.gauge,
        };
        let probe = match subject.probe {
            Some(open) => Some(timeout(PATIENCE, open(store.url.clone())).await??),
            None => None,
        };
        let (seats, processes) = (Vec::new(), Vec::new());
        let (_store, _folder) = (store, folder);
        let mut crew = Self { seats, processes, probe, post, count, _store, _folder };
        Ok(crew.hire().await?.then_some(crew))
    }

    /// Lets other workers take the place of these, on the same store.
    pub(crate) async fn renew(&mut self) -> Outcome {
        self.let_go().await?;
        self.hire().await.map(drop)
    }

    /// Starts the workers; false if the backend lacks what the lane asks for.
    async fn hire(&mut self) -> Outcome<bool> {
        let mut able = true;
        // One after the other: whoever comes first makes the store's tables.
        for _ in 0..self.count {
            let first = self.seats.len();
            self.add()?;
            for link in &self.seats[first..] {
                able &= link.ready().await?;
            }
        }
        Ok(able)
    }

    fn add(&mut self) -> Outcome {
        let post = &self.post;
        let mut command = Command::new(program(post.gauge)?);
        command.env(POST, serde_json::to_string(post)?);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn()?;
        let pipes = process.stdin.take().zip(process.stdout.take());
        let (orders, said) = pipes.ok_or_else(|| Failure::new("no pipes to the worker"))?;
        let orders = Arc::new(Mutex::new(orders));
        let mut to = Vec::new();
        for seat in 0..post.seats {
            let (send, replies) = mpsc::unbounded_channel();
            to.push(send);
            let replies = Mutex::new(replies);
            self.seats.push(Link { seat, orders: orders.clone(), replies });
        }
        tokio::spawn(deliver(said, to));
        self.processes.push(process);
        Ok(())
    }

    /// Gives an order to one seat and returns what it replies.
    pub(crate) async fn ask(&self, seat: usize, order: Order) -> Outcome<Reply> {
        self.seats[seat].ask(order).await
    }

    /// As [`ask`](Self::ask), of an order that is answered with an instant since boot.
    pub(crate) async fn ask_when(&self, seat: usize, order: Order) -> Outcome<Duration> {
        match self.ask(seat, order).await? {
            Reply::At(instant) => Ok(instant),
            other => Err(unexpected(&other)),
        }
    }

    /// Gives each seat its order, all at once, and returns what each task of theirs did.
    pub(crate) async fn ask_each(&self, order: impl Fn(usize) -> Order) -> Outcome<Vec<Tally>> {
        let asked = self.seats.iter().enumerate().map(|(seat, link)| link.ask(order(seat)));
        let replies = join_all(asked).await;
        let mut all = Vec::new();
        for reply in replies {
            match reply? {
                Reply::Tallies(tallies) => all.extend(tallies),
                other => return Err(unexpected(&other)),
            }
        }
        Ok(all)
    }

    /// As [`ask_each`](Self::ask_each), of an order to contend; also returns what the seats have asked of
    /// the store meanwhile, where that is counted.
    pub(crate) async fn ask_to_contend(
        &self,
        order: impl Fn(usize) -> Order,
    ) -> Outcome<(Vec<Tally>, Option<Requests>)> {
        let asked = self.seats.iter().enumerate().map(|(seat, link)| link.ask(order(seat)));
        let (mut all, mut sum) = (Vec::new(), Some(Requests::default()));
        for reply in join_all(asked).await {
            match reply? {
                Reply::Contended { tallies, requests } => {
                    all.extend(tallies);
                    sum = sum.zip(requests).map(|(sum, requests)| sum + requests);
                }
                other => return Err(unexpected(&other)),
            }
        }
        Ok((all, sum))
    }

    /// What one seat's process uses, and what that seat has asked of the store.
    pub(crate) async fn usage(&self, seat: usize) -> Outcome<Usage> {
        match self.ask(seat, Order::Usage).await? {
            Reply::Usage(usage) => Ok(usage),
            other => Err(unexpected(&other)),
        }
    }

    /// How long the shortest round trip to the store's server takes right now, if it has one.
    pub(crate) async fn ping(&self) -> Outcome<Option<Duration>> {
        let Some(probe) = &self.probe else { return Ok(None) };
        let sent = Instant::now();
        timeout(PATIENCE, probe.ping()).await??;
        Ok(Some(sent.elapsed()))
    }

    /// What the store's server has carried out so far, if there is one that tells.
    pub(crate) async fn load(&self) -> Outcome<Option<Load>> {
        match &self.probe {
            Some(probe) => timeout(PATIENCE, probe.load()).await?.map(Some),
            None => Ok(None),
        }
    }

    /// Lets all seats release what they hold, and the processes end.
    pub(crate) async fn dismiss(mut self) -> Outcome {
        self.let_go().await
    }

    async fn let_go(&mut self) -> Outcome {
        for link in &self.seats {
            link.ask(Order::Leave).await?;
        }
        self.seats.clear();
        for mut process in self.processes.drain(..) {
            let status = timeout(PATIENCE, process.wait()).await??;
            if !status.success() {
                return Err(Failure::new(format!("a worker ended with {status}")));
            }
        }
        Ok(())
    }
}

impl Link {
    async fn ready(&self) -> Outcome<bool> {
        match self.reply(PATIENCE).await? {
            Reply::Ready { able } => Ok(able),
            other => Err(unexpected(&other)),
        }
    }

    async fn ask(&self, order: Order) -> Outcome<Reply> {
        let patience = order.time() + PATIENCE;
        let line = serde_json::to_string(&Line { seat: self.seat, says: order })? + "\n";
        self.orders.lock().await.write_all(line.as_bytes()).await?;
        self.reply(patience).await
    }

    async fn reply(&self, patience: Duration) -> Outcome<Reply> {
        let mut replies = self.replies.lock().await;
        match timeout(patience, replies.recv()).await {
            Ok(Some(Reply::Failed(why))) => Err(Failure::new(why)),
            Ok(Some(reply)) => Ok(reply),
            Ok(None) => Err(Failure::new("a worker ended too early")),
            Err(_) => Err(Failure::new(format!("a worker was silent for {patience:?}"))),
        }
    }
}

/// Passes what a process says to the links of its seats, until it says no more.
async fn deliver(said: ChildStdout, to: Vec<mpsc::UnboundedSender<Reply>>) {
    let mut lines = BufReader::new(said).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str::<Line<Reply>>(&line) {
            // A link that is gone wants no replies.
            Ok(Line { seat, says }) => _ = to.get(seat).map(|link| link.send(says)),
            Err(error) => eprintln!("lock-bench: a worker said {line:?}: {error}"),
        }
    }
}

/// This program, or the one beside it that counts allocations.
fn program(gauge: Gauge) -> Outcome<PathBuf> {
    let program = env::current_exe()?;
    if gauge != Gauge::Memory {
        return Ok(program);
    }
    let counted = program.with_file_name("lock-bench-counted");
    if counted.is_file() {
        return Ok(counted);
    }
    Err(Failure::new(format!("{} is missing: build all of lock-bench", counted.display())))
}

fn unexpected(reply: &Reply) -> Failure {
    Failure::new(format!("a worker replied {reply:?}"))
}
