//! What a demo prints as it happens, and how it is judged.

use std::env;
use std::error::Error;
use std::fmt::Display;
use std::io::IsTerminal;
use std::io::Write as _;
use std::time::Duration;
use std::time::Instant;

use anstyle::AnsiColor;
use anstyle::Style;

/// Whatever can end a demo; what it says is printed, and the program fails.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// The result of all that can fail.
pub(crate) type Result<T = (), E = Failure> = std::result::Result<T, E>;

/// One run of a demo, from whose begin times are counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Story {
    begun: Instant,
}

const TITLE: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const WHO: Style = AnsiColor::Cyan.on_default();
const FAULT: Style = AnsiColor::Yellow.on_default();
const OK: Style = AnsiColor::Green.on_default();
const WRONG: Style = AnsiColor::Red.on_default();

impl Story {
    /// Prints the title and starts the clock.
    pub(crate) fn begin(title: &str) -> Self {
        print(format!("\n{}", painted(TITLE, title)));
        Self { begun: Instant::now() }
    }

    /// Says what somebody does or sees, and when.
    pub(crate) fn tell(&self, who: &str, what: impl Display) {
        let at = format!("{:>7.3} s", self.begun.elapsed().as_secs_f64());
        let style = if who == "fault" { FAULT } else { WHO };
        print(format!("{}  {}  {what}", painted(DIM, at), painted(style, format!("{who:<12}"))));
    }

    /// Begins a part.
    pub(crate) fn part(&self, what: impl Display) {
        print(format!("\n           {}", painted(TITLE, what)));
    }

    /// Prints a line of a table under what is told.
    pub(crate) fn line(&self, what: impl Display) {
        print(format!("           {what}"));
    }

    /// Judges: prints what is so, or ends the demo because it is not.
    pub(crate) fn check(&self, is_so: bool, what: impl Display) -> Result {
        if !is_so {
            return Err(format!("wrong, this should be so: {what}").into());
        }
        self.ok(what);
        Ok(())
    }

    /// Says what is so, as what came before has made sure of.
    pub(crate) fn ok(&self, what: impl Display) {
        print(format!("       {}  {what}", painted(OK, "ok")));
    }
}

/// Says why the program fails.
pub(crate) fn fail(why: impl Display) {
    let name = if is_coloured(&std::io::stderr()) {
        format!("{WRONG}demos:{WRONG:#}")
    } else {
        "demos:".to_owned()
    };
    eprintln!("{name} {why}");
}

/// Prints a line. Who does not read on, as `head`, keeps nothing from going on.
fn print(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn painted(style: Style, text: impl Display) -> String {
    if is_coloured(&std::io::stdout()) {
        format!("{style}{text}{style:#}")
    } else {
        text.to_string()
    }
}

fn is_coloured(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Shorthand for what all demos are full of.
pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Waits on the runtime.
pub(crate) async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Looks until something is so, or for ten seconds.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> Result<bool>) -> Result {
    let begun = Instant::now();
    while !is_so().await? {
        if begun.elapsed() > ms(10_000) {
            return Err(format!("wrong: no {what} within ten seconds").into());
        }
        pause(ms(5)).await;
    }
    Ok(())
}
