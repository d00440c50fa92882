//! The machine that the figures come from, and whether it had anything else to do.

use std::fmt;
use std::fs;
use std::thread::available_parallelism;

use rustix::system::uname;
use serde::Serialize;

use crate::failure::Failure;
use crate::failure::Outcome;

/// What a reader has to know to compare figures.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) processor: String,
    pub(crate) system: String,
    /// The load averages of the last 1, 5 and 15 minutes before the start.
    pub(crate) load: [f64; 3],
    /// Whether others kept more than half of the cores busy.
    pub(crate) busy: bool,
}

impl Machine {
    pub(crate) fn read() -> Outcome<Self> {
        let cores = available_parallelism()?.get();
        let load = load(&fs::read_to_string("/proc/loadavg")?)?;
        let system = uname();
        let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
        Ok(Self {
            cores,
            processor: processor().unwrap_or_else(|| text(system.machine())),
            system: format!("{} {}", text(system.sysname()), text(system.release())),
            load,
            busy: is_busy(load[0], cores),
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [one, five, fifteen] = self.load;
        write!(f, "{} cores of {}, {}, ", self.cores, self.processor, self.system)?;
        write!(f, "load {one:.2} {five:.2} {fifteen:.2}")
    }
}

fn is_busy(load: f64, cores: usize) -> bool {
    load > cores as f64 / 2.0
}

fn load(text: &str) -> Outcome<[f64; 3]> {
    let numbers: Option<Vec<f64>> =
        text.split_whitespace().take(3).map(|word| word.parse().ok()).collect();
    let numbers = numbers.and_then(|numbers| numbers.try_into().ok());
    numbers.ok_or_else(|| Failure::new("/proc/loadavg has no three averages"))
}

fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("model name"))?;
    Some(line.trim_start_matches([' ', '\t', ':']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_averages_are_read_and_judged_by_the_cores() {
        assert_eq!(load("1.25 0.50 0.10 2/300 4711\n").unwrap(), [1.25, 0.5, 0.1]);
        assert!(load("nothing").is_err());
        assert!(is_busy(1.25, 2) && !is_busy(1.0, 2));
    }
}
