//! What happens to the store, to the lines and to the processes while a storm lasts, each by itself.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use lock_core::BootInstant;
use lock_core::LockKey;
use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

use crate::Outcome;
use crate::Weather;
use crate::cx::ms;
use crate::cx::now;
use crate::cx::sleep;
use crate::cx::sleep_until;

use super::Forgot;
use super::Line;
use super::Target;
use super::crew::Crew;
use super::crew::HANDS;
use super::stage::Stage;

/// Something that was done, and what came of it.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) what: String,
    pub(super) from: BootInstant,
    pub(super) until: BootInstant,
    pub(super) forgot: Option<Forgot>,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, from, until, forgot } = self;
        write!(f, "{} to {}: {what}", from.as_nanos(), until.as_nanos())?;
        if let Some(Forgot { from, until, keys }) = forgot {
            write!(f, "; forgot {keys:?} between {} and {}", from.as_nanos(), until.as_nanos())?;
        }
        Ok(())
    }
}

impl Event {
    fn ended(what: impl Into<String>, from: BootInstant, forgot: Option<Forgot>) -> Self {
        Self { what: what.into(), from, until: now(), forgot }
    }
}

/// Strikes the store again and again, in each way once before in any way again, and at
/// least once in each. Nothing is left to mend when it ends.
pub(super) async fn strike<T: Target>(
    stage: Arc<Stage<T>>,
    keys: Vec<LockKey>,
    mut random: StdRng,
    until: BootInstant,
) -> Outcome<Vec<Event>> {
    let (mut blows, mut events) = (Vec::new(), Vec::new());
    while now() < until || events.len() < T::BLOWS.len() {
        sleep(ms(random.random_range(50..400))).await;
        if blows.is_empty() {
            blows.extend(T::BLOWS);
            blows.shuffle(&mut random);
        }
        let Some(blow) = blows.pop() else { break };
        let long = ms(random.random_range(20..1000));
        let from = now();
        let forgot = stage.strike(blow, long, &keys)?;
        events.push(Event::ended(format!("the store: {blow} ({long:?})"), from, forgot));
    }
    Ok(events)
}

/// Lets each line go bad now and then, and at times from bad to worse.
pub(super) async fn weather(
    lines: Vec<Line>,
    ttl: Duration,
    mut random: StdRng,
    until: BootInstant,
) -> Vec<Event> {
    let mut events = Vec::new();
    while now() < until && !lines.is_empty() {
        sleep(ms(random.random_range(50..800))).await;
        let number = random.random_range(0..lines.len());
        loop {
            let (weather, from) = (draw(ttl, &mut random), now());
            lines[number].link.set(weather);
            sleep(ttl.mul_f64(random.random_range(0.01..0.9))).await;
            events.push(Event::ended(format!("line {number}: {weather:?}"), from, None));
            if random.random_bool(0.7) {
                break;
            }
        }
        lines[number].link.set(Weather::Fair);
    }
    events
}

fn draw(ttl: Duration, random: &mut StdRng) -> Weather {
    let delay = |random: &mut StdRng| ttl.mul_f64(random.random_range(0.0_f64..0.7).powi(3));
    match random.random_range(0..4) {
        0 => Weather::Slow { there: delay(random), back: delay(random) },
        1 => Weather::LosesReplies,
        2 => Weather::Hangs,
        _ => Weather::Down,
    }
}

/// Kills and freezes processes.
pub(super) async fn upset(
    crew: &mut Crew,
    ttl: Duration,
    random: &mut StdRng,
    until: BootInstant,
) -> Outcome<Vec<Event>> {
    let mut events = Vec::new();
    while now() < until {
        sleep(ms(random.random_range(200..1500))).await;
        let (place, from) = (random.random_range(0..HANDS), now());
        if random.random_bool(0.5) {
            crew.kill(place, ms(5000)).await?;
            events.push(Event::ended(format!("process {place}: killed"), from, None));
        } else {
            let long = ttl.mul_f64(random.random_range(0.1..2.5));
            crew.freeze(place)?;
            sleep_until(from + long).await;
            crew.thaw(place)?;
            events.push(Event::ended(format!("process {place}: frozen"), from, None));
        }
    }
    Ok(events)
}
