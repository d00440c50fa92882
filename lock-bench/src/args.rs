//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use clap::builder::PossibleValuesParser;

use crate::scenarios::SCENARIOS;
use crate::subjects::SUBJECTS;

/// What to measure.
#[derive(Parser)]
#[command(name = "cargo xtask bench", about = "Measures backends against bare clients and peers")]
pub(crate) struct Arguments {
    /// Measure this backend only; may be repeated
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(backends()))]
    pub(crate) backend: Vec<String>,
    /// Measure this scenario only; may be repeated
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(scenarios()))]
    pub(crate) scenario: Vec<String>,
    /// Measure rows of this size only, as in "16 tasks"; may be repeated
    #[arg(long, value_name = "N")]
    pub(crate) size: Vec<usize>,
    /// How long one round lasts; 0.2 with --quick, or what makes the whole run 7 minutes, 1 at most
    #[arg(long, value_name = "N", value_parser = seconds)]
    pub(crate) seconds: Option<Duration>,
    /// How many rounds count; 3, or 2 with --quick
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) rounds: Option<u16>,
    /// Take fewer and shorter rounds and fewer locks: to see that it works, not to quote
    #[arg(long)]
    pub(crate) quick: bool,
    /// Where the results go
    #[arg(long, value_name = "DIR", env = "LOCK_BENCH_OUT", default_value = "target/bench")]
    pub(crate) out: PathBuf,
}

fn backends() -> impl Iterator<Item = &'static str> {
    SUBJECTS.iter().map(|subject| subject.name)
}

fn scenarios() -> impl Iterator<Item = &'static str> {
    SCENARIOS.iter().map(|scenario| scenario.name())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.01..=3_600.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "write seconds from 0.01 to 3600".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(arguments: &[&str]) -> String {
        let all = ["bench"].iter().chain(arguments);
        Arguments::try_parse_from(all).err().expect("refused").to_string()
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_list() {
        let text = refused(&["--backend", "mongodb"]);
        assert!(text.contains("memory, sqlite, redis"), "{text}");
        let text = refused(&["--scenario", "speed"]);
        assert!(text.contains("uncontended, handover, idle, contention, held"), "{text}");
    }

    #[test]
    fn seconds_are_a_positive_number() {
        for wrong in ["0", "-1", "x", "NaN", "1e9"] {
            assert!(refused(&[&format!("--seconds={wrong}")]).contains("write seconds"), "{wrong}");
        }
        let arguments = Arguments::try_parse_from(["bench", "--seconds", "0.5"]).unwrap();
        assert_eq!(arguments.seconds, Some(Duration::from_millis(500)));
    }
}
