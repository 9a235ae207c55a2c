//! `cargo xtask dist`: the one static file that people install and that starts on any distribution.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::util;

/// `e_type` of a shared object or position-independent program.
const ET_DYN: u16 = 3;
/// `e_machine` of x86_64.
const EM_X86_64: u16 = 62;
/// `p_type` of the segment that names a dynamic loader.
const PT_INTERP: u32 = 3;

/// The chore.
pub(crate) fn run(args: &[String]) -> Result<()> {
    util::no_args(args)?;
    ensure!(
        cfg!(target_arch = "x86_64"),
        "only x86_64 machines build the program that is installed"
    );
    let built = util::build("aiops", "dist")?;
    let bytes = std::fs::read(&built).with_context(|| built.display().to_string())?;
    check(&bytes).with_context(|| built.display().to_string())?;
    let folder = util::target_dir()?.join("dist");
    let place = folder.join("aiops");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    std::fs::copy(&built, &place).with_context(|| place.display().to_string())?;
    println!("{}: static, {} bytes", shown(&place), bytes.len());
    pages(&place, &folder)
}

/// Manual pages and completions, made by the program itself, where a package takes them from.
fn pages(program: &Path, folder: &Path) -> Result<()> {
    let man = folder.join("man/man1");
    let completions = folder.join("completions");
    for made in [&man, &completions] {
        std::fs::create_dir_all(made).with_context(|| made.display().to_string())?;
    }
    util::run(Command::new(program).args(["man", "--out"]).arg(&man))?;
    for (shell, name) in [("bash", "aiops"), ("zsh", "_aiops"), ("fish", "aiops.fish")] {
        let script = util::output(Command::new(program).args(["completions", shell]))?;
        let file = completions.join(name);
        std::fs::write(&file, script).with_context(|| file.display().to_string())?;
    }
    println!(
        "{}, {}: manual pages and completions",
        shown(&man),
        shown(&completions)
    );
    Ok(())
}

fn shown(place: &Path) -> String {
    let root = util::root().unwrap_or_default();
    place
        .strip_prefix(root)
        .unwrap_or(place)
        .display()
        .to_string()
}

/// A position-independent 64-bit program for x86_64 that needs no dynamic loader.
fn check(elf: &[u8]) -> Result<()> {
    ensure!(
        elf.starts_with(b"\x7fELF\x02\x01"),
        "no 64-bit little-endian ELF file"
    );
    ensure!(half(elf, 18)? == EM_X86_64, "not for x86_64");
    ensure!(half(elf, 16)? == ET_DYN, "not position-independent");
    let table = usize::try_from(u64::from_le_bytes(bytes(elf, 32)?))?;
    let (step, count) = (usize::from(half(elf, 54)?), usize::from(half(elf, 56)?));
    ensure!(count > 0, "no program headers");
    for index in 0..count {
        let at = index.checked_mul(step).and_then(|at| at.checked_add(table));
        let kind = u32::from_le_bytes(bytes(elf, at.context("program headers")?)?);
        if kind == PT_INTERP {
            bail!("it names a dynamic loader, so it is not static");
        }
    }
    Ok(())
}

fn half(elf: &[u8], at: usize) -> Result<u16> {
    Ok(u16::from_le_bytes(bytes(elf, at)?))
}

fn bytes<const N: usize>(elf: &[u8], at: usize) -> Result<[u8; N]> {
    let end = at.checked_add(N).context("an offset is too large")?;
    Ok(elf
        .get(at..end)
        .context("the ELF file is cut")?
        .try_into()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The head of a program with one segment of this kind.
    fn program(segment: u32) -> Vec<u8> {
        let mut elf = vec![0; 120];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[16..18].copy_from_slice(&ET_DYN.to_le_bytes());
        elf[18..20].copy_from_slice(&EM_X86_64.to_le_bytes());
        elf[32] = 64;
        elf[54] = 56;
        elf[56] = 1;
        elf[64..68].copy_from_slice(&segment.to_le_bytes());
        elf
    }

    #[test]
    fn a_dynamic_program_is_refused() {
        check(&program(1)).expect("one PT_LOAD");
        let error = check(&program(PT_INTERP)).expect_err("it has a loader");
        assert!(error.to_string().contains("dynamic loader"), "{error}");
    }

    #[test]
    fn real_programs_are_told_apart() {
        let this = std::env::current_exe().expect("this test program");
        let bytes = std::fs::read(this).expect("it can be read");
        assert_eq!(check(&bytes).is_ok(), cfg!(target_feature = "crt-static"));
    }

    #[test]
    fn other_files_are_refused() {
        let whole = program(1);
        for len in 0..68 {
            assert!(check(&whole[..len]).is_err(), "cut at {len}");
        }
        let mut fixed = whole;
        fixed[16] = 2;
        assert!(check(&fixed).is_err());
    }
}
