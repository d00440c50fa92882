//! Many processes, some of which are killed. Each case has a long form, and shows its figures.

use std::collections::BTreeMap;
use std::time::Duration;

use lock_core::KeyState;
use lock_core::LeaseKind;
use lock_core::Mode;

use super::contend::Habit;
use super::history::holds_are_sound;
use super::history::nothing_is_left;
use crate::Cx;
use crate::Outcome;
use crate::case::cases;
use crate::check;
use crate::check::grants_by_class;
use crate::child::Role;
use crate::cx::SLACK;
use crate::cx::acquired_within;
use crate::cx::in_full;
use crate::cx::lock;
use crate::cx::ms;
use crate::cx::now;
use crate::cx::opts;
use crate::cx::permits;
use crate::cx::settled;
use crate::cx::sleep;
use crate::cx::tell;
use crate::failure::check;
use crate::history::Done;
use crate::history::Op;
use crate::history::Record;
use crate::history::Recorder;
use crate::process::Process;

cases! { "fleet":
    "G6 G5" "D5 D6" of_fair_waiters_keeps_its_order_though_heads_are_killed
        [Processes, Line] Heavy in 120;
    "G1 G2 G6" "A18 D7" of_readers_and_writers_is_sound [Processes, Shared] Heavy in 180;
    "G1 G2 S3" "A17 B18" of_permit_holders_is_sound_though_some_are_killed
        [Processes, Permits] Heavy in 180;
}

/// Starts processes and waits until they are ready.
async fn start(cx: &Cx, roles: impl Iterator<Item = Role>) -> Outcome<Vec<Process>> {
    let mut processes = Vec::new();
    for role in roles {
        processes.push(Process::start(cx, role)?);
    }
    for process in &mut processes {
        process.line(ms(20_000)).await?;
    }
    Ok(processes)
}

/// Lets one process for each habit contend, and returns what they recorded.
pub(super) async fn contention(
    cx: &Cx,
    habits: Vec<Habit>,
    long: Duration,
) -> Outcome<Vec<Record>> {
    let millis = u64::try_from(long.as_millis())?;
    let roles = habits.into_iter().zip(0..).map(|(habit, process)| Role::Contend {
        habit,
        process,
        millis,
        aloud: false,
    });
    let mut processes = start(cx, roles).await?;
    let recorder = Recorder::default();
    for process in &mut processes {
        while let Some(line) = process.line(long + ms(20_000)).await? {
            recorder.add_lines(line.as_bytes())?;
            take_in(process, &recorder)?;
        }
        process.has_done_well()?;
    }
    Ok(recorder.history())
}

/// Adds what a process has recorded so far.
fn take_in(process: &mut Process, recorder: &Recorder) -> Outcome {
    process.lines_so_far().iter().try_for_each(|line| recorder.add_lines(line.as_bytes()))
}

fn long_or(short: Duration) -> Duration {
    if in_full() { ms(60_000) } else { short }
}

/// Who was granted the lock, in the order of the fences.
fn order(history: &[Record]) -> Vec<u64> {
    let granted = |record: &&Record| record.op == Op::Acquire && record.result == Done::Ok;
    let mut grants: Vec<_> = history.iter().filter(granted).collect();
    grants.sort_by_key(|grant| grant.fence);
    grants.into_iter().map(|grant| grant.process).collect()
}

/// Adds what the processes record until `until` holds of the order of grants.
async fn served(
    processes: &mut [Process],
    recorder: &Recorder,
    until: impl Fn(&[u64]) -> bool,
) -> Outcome {
    let patience = now() + ms(30_000);
    loop {
        processes.iter_mut().try_for_each(|process| take_in(process, recorder))?;
        let order = order(&recorder.history());
        if until(&order) {
            return Ok(());
        }
        check!(now() < patience, "for half a minute no more than {order:?} were served");
        sleep(ms(10)).await;
    }
}

const FLEET: usize = 8;
const WAITERS: u64 = 50;
/// While this one holds, the next in line is killed.
const LINGERER: u64 = 20;

/// Whose process is killed before they can be served: those of the first, at the start, and those
/// of the one after the lingerer.
fn dies(number: u64) -> bool {
    let process = |number: u64| number as usize % FLEET;
    let second = number > LINGERER && process(number) == process(LINGERER + 1);
    process(number) == 0 || second
}

async fn of_fair_waiters_keeps_its_order_though_heads_are_killed(cx: Cx) -> Outcome {
    let habit = Habit::new().fairly().for_ttl(ms(3000)).waiting(ms(60_000));
    let roles = (0..FLEET).map(|_| Role::Queue { habit: habit.clone() });
    let mut processes = start(&cx, roles).await?;
    let (engine, client, recorder) = (cx.engine().await?, cx.client().await?, Recorder::default());
    let held = lock(&engine, "a", opts()).await?;
    for number in 0..WAITERS {
        let hold = if number == LINGERER { 1000 } else { 5 };
        processes[number as usize % FLEET].say(&format!("{number} {hold}"))?;
        let lined_up = |state: &KeyState| state.waiting == number + 1;
        settled(&*client, &cx.key("a"), ms(10_000), lined_up).await?;
    }
    processes[0].kill()?;
    held.unlock().await?;
    served(&mut processes, &recorder, |order| order.contains(&LINGERER)).await?;
    processes[(LINGERER + 1) as usize % FLEET].kill()?;
    served(&mut processes, &recorder, |order| order.contains(&(WAITERS - 1))).await?;
    let (history, expected) = (recorder.history(), (0..WAITERS).filter(|number| !dies(*number)));
    let (order, expected) = (order(&history), expected.collect::<Vec<_>>());
    check!(order == expected, "served in the order {order:?}");
    holds_are_sound(&history)?;
    tell(&figures_of_the_line(&history));
    Ok(())
}

/// How long the line stood still between a release and the next grant.
fn figures_of_the_line(history: &[Record]) -> String {
    let mut ends: Vec<_> = history.iter().filter(|record| record.result == Done::Ok).collect();
    ends.sort_by_key(|record| record.return_ns);
    let pauses = ends.windows(2).filter(|pair| pair[1].op == Op::Acquire);
    let mut pauses: Vec<_> =
        pauses.map(|pair| Duration::from_nanos(pair[1].return_ns - pair[0].return_ns)).collect();
    pauses.sort_unstable();
    let served = pauses.len() + 1;
    let (median, longest) = (pauses[pauses.len() / 2], pauses[pauses.len() - 1]);
    format!(
        "{served} of {WAITERS} waiters in {FLEET} processes served in exact order, the others killed \
         with their processes; hand-over {median:?} (median), {longest:?} past the dead"
    )
}

async fn of_readers_and_writers_is_sound(cx: Cx) -> Outcome {
    let mut habits = vec![Habit::new().in_mode(Mode::Shared).holding(ms(5)); 4];
    habits.extend(vec![Habit::new().holding(ms(2)); 2]);
    let long = long_or(ms(2500));
    let history = contention(&cx, habits, long).await?;
    check!(history.len() > 50, "only {} records: too few to say anything", history.len());
    holds_are_sound(&history)?;
    check::no_mode_starves(&history, 60)?;
    check::nobody_starves(&history, 60 * 6)?;
    check::losses_are_told(&history, SLACK)?;
    tell(&figures(&history, "four readers and two writers", long));
    nothing_is_left(&cx, SLACK).await
}

/// How many grants each kind had, and how few one process.
fn figures(history: &[Record], who: &str, long: Duration) -> String {
    let of_kind = |((_, class), count)| format!("{class:?}s {count}");
    let kinds: Vec<_> = grants_by_class(history).into_iter().map(of_kind).collect();
    let (order, mut each) = (order(history), BTreeMap::<_, u64>::new());
    order.iter().for_each(|process| *each.entry(process).or_default() += 1);
    let least = each.values().min().copied().unwrap_or(0);
    let (all, kinds) = (order.len(), kinds.join(", "));
    format!("{who} for {long:?}: {all} grants ({kinds}), the least of one process {least}")
}

async fn of_permit_holders_is_sound_though_some_are_killed(cx: Cx) -> Outcome {
    let client = cx.client().await?;
    let (ttl, long) = (cx.ttl(&*client).max(ms(800)), long_or(ms(3000)));
    let session = client.profile().lease == LeaseKind::Session;
    let habit = Habit::new().in_mode(permits(3)).for_ttl(ttl).holding(ms(15));
    let contend =
        |process| Role::Contend { habit: habit.clone(), process, millis: 600_000, aloud: true };
    let mut processes = start(&cx, (0..5).map(contend)).await?;
    let mut numbers = [0, 1, 2, 3, 4];
    let (until, recorder, mut killed) = (now() + long, Recorder::default(), 0);
    while now() < until {
        sleep(ms(400)).await;
        let victim = killed as usize % processes.len();
        kill(&mut processes[victim], numbers[victim], session, &recorder).await?;
        killed += 1;
        numbers[victim] = 4 + killed;
        processes[victim] = Process::start(&cx, contend(numbers[victim]))?;
    }
    for (process, number) in processes.iter_mut().zip(numbers) {
        kill(process, number, session, &recorder).await?;
    }
    let history = recorder.history();
    check!(history.len() > 50, "only {} records: too few to say anything", history.len());
    holds_are_sound(&history)?;
    for _ in 0..3 {
        acquired_within(&*client, &cx.claim_in("a", permits(3)), ttl + SLACK).await?;
    }
    tell(&figures(&history, &format!("three permits, {killed} holders killed"), long));
    Ok(())
}

/// Kills a process, whose records bear `number`, and takes in what it said. What it held on a session goes
/// with that: from here on, or when the store notices.
async fn kill(process: &mut Process, number: u64, session: bool, recorder: &Recorder) -> Outcome {
    let end = Record::begin(number, "a", Op::Release).in_mode(permits(3));
    process.kill()?;
    while let Some(line) = process.line(ms(5000)).await? {
        recorder.add_lines(line.as_bytes())?;
    }
    let history = recorder.history();
    let of = |record: &&Record| record.process == number && record.fence.is_some();
    let last = history.iter().filter(of).max_by_key(|record| record.fence);
    if let Some(last) = last.filter(|last| session && last.op != Op::Release) {
        recorder.add(Record { fence: last.fence, deadline_ns: last.deadline_ns, ..end });
    }
    Ok(())
}
