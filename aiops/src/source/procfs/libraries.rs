//! Which files and named regions a process has mapped (/proc/PID/maps), and what its program is linked with: what tells
//! its runtime.

use std::io;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::path::Path;

use super::super::procdir::ProcDir;
use super::linked;

/// No more of the file is read.
const MOST_BYTES: u64 = 8 << 20;

/// The start of a process, clock ticks since boot, and the names in its maps, each once, in their order;
/// before them `[linked: …]` of what is in the program itself.
///
/// # Errors
/// It is gone, or may not be read.
pub fn read_libraries(root: &Path, pid: u32) -> io::Result<(u64, Vec<String>)> {
    let dir = ProcDir::open(root, pid)?;
    let start_ticks = dir.stat()?.start_ticks;
    let text = BufReader::new(dir.file(b"maps")?.take(MOST_BYTES));
    let mut names: Vec<String> = linked::linked(&dir)
        .map(str::to_owned)
        .into_iter()
        .collect();
    for line in text.split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        if let Some(name) = name(&line)
            && names.last().is_none_or(|last| last != name)
            && !names.iter().any(|known| known == name)
        {
            names.push(name.to_owned());
        }
    }
    Ok((start_ticks, names))
}

/// The name at the end of a line, which may have blanks; the five columns before it have none.
fn name(line: &str) -> Option<&str> {
    let mut rest = line;
    for _ in 0..5 {
        let rest_trimmed = rest.trim_start();
        rest = &rest_trimmed[rest_trimmed.find(' ')?..];
    }
    let name = rest.trim();
    (name.starts_with('/') || name.starts_with('[')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_maps() {
        let line = "7f10-7f20 r-xp 00000000 08:01 1234   /usr/lib/libc.so.6";
        assert_eq!(name(line), Some("/usr/lib/libc.so.6"));
        let line = "c000000000-c000400000 rw-p 00000000 00:00 0   [anon: Go: heap]";
        assert_eq!(name(line), Some("[anon: Go: heap]"));
        for none in ["7f10-7f20 rw-p 00000000 00:00 0 ", "", "x", "a b c d e f"] {
            assert_eq!(name(none), None, "{none}");
        }
    }

    #[test]
    fn this_process_has_mapped_itself() {
        let (start, names) = read_libraries(Path::new("/"), std::process::id()).unwrap();
        assert!(start > 0);
        let itself = std::env::current_exe().unwrap();
        assert!(
            names.iter().any(|name| Path::new(name) == itself),
            "{names:?}"
        );
    }
}
