//! The part of the test program that runs as another process.

use std::process::ExitCode;
use std::sync::Arc;

use crate::Fixture;

pub(crate) fn run(_fixtures: &[Arc<dyn Fixture>]) -> Option<ExitCode> {
    None
}
