//! The same program with an allocator that counts; the rows about memory run in it. Counting costs a
//! few nanoseconds an allocation, which would fall on whoever allocates more, so no speed is measured here.

use std::alloc::System;
use std::process::ExitCode;

use cap::Cap;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

fn main() -> ExitCode {
    lock_bench::main(Some(|| ALLOCATOR.allocated()))
}
