//! The worker: this program started once more, with the clients of one lane in it.

use std::io::Write as _;
use std::sync::Arc;
use std::thread;

use tokio::sync::mpsc;

use crate::Allocated;
use crate::failure::Failure;
use crate::failure::Outcome;
use crate::lane::Lane;
use crate::order::Line;
use crate::order::Order;
use crate::order::Post;
use crate::order::Reply;
use crate::seat::Seat;
use crate::subjects;
use crate::usage::Gauges;

/// Opens the seats, says so, and carries orders out until there are no more: until the benchmark has
/// ended, however it did.
pub(crate) async fn work(post: Post, allocated: Option<Allocated>) -> Outcome {
    let subject = subjects::find(&post.subject)?;
    let lane = Lane::find(subject, &post.lane)?;
    let mut lines = lines();
    let gauges = Arc::new(Gauges::new(subject, post.seats, allocated)?);
    let mut orders = Vec::new();
    for seat in 0..post.seats {
        let (send, receive) = mpsc::unbounded_channel();
        orders.push(send);
        match lane.open(&post).await {
            Ok(opened) => {
                say(seat, Reply::Ready { able: opened.is_some() })?;
                if let Some(client) = opened {
                    tokio::spawn(serve(seat, client, receive, gauges.clone()));
                }
            }
            Err(failure) => say(seat, Reply::Failed(failure.to_string()))?,
        }
    }
    while let Some(line) = lines.recv().await {
        let Line { seat, says } = serde_json::from_str::<Line<Order>>(&line)?;
        let order = orders.get(seat).ok_or_else(|| Failure::new("an order for no seat"))?;
        // A seat that could not be opened has said so.
        let _ = order.send(says);
    }
    Ok(())
}

/// The lines of standard input, read by a thread that is there before threads are counted.
fn lines() -> mpsc::UnboundedReceiver<String> {
    let (send, lines) = mpsc::unbounded_channel();
    thread::spawn(move || {
        let mut read = std::io::stdin().lines().map_while(Result::ok);
        read.try_for_each(|line| send.send(line))
    });
    lines
}

async fn serve(
    seat: usize,
    mut client: Box<dyn Seat>,
    mut orders: mpsc::UnboundedReceiver<Order>,
    gauges: Arc<Gauges>,
) {
    while let Some(order) = orders.recv().await {
        let outcome = match order {
            Order::Usage => gauges.read(client.requests()).map(Reply::Usage),
            order => client.obey(order).await,
        };
        let reply = outcome.unwrap_or_else(|failure| Reply::Failed(failure.to_string()));
        if say(seat, reply).is_err() {
            return; // Nobody listens any more.
        }
    }
}

fn say(seat: usize, reply: Reply) -> Outcome {
    let line = serde_json::to_string(&Line { seat, says: reply })?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
