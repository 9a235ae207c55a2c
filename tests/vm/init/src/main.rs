//! Process 1 of the virtual machines.

fn main() {}
