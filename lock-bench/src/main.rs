//! `lock-bench`: measures what `cargo xtask bench` shows.

use std::process::ExitCode;

fn main() -> ExitCode {
    lock_bench::main(None)
}
