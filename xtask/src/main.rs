//! Chores of the aiops repository: `cargo xtask CHORE`.

fn main() {}
