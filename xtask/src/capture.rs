//! `cargo xtask capture DIR`: a tree for `aiops --root`, of this kernel, of a virtual machine's, or shaped
//! like an old one's (tests/data/proc/README.md).

use std::io::{BufRead as _, BufReader};
use std::path::{Component, Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{util, vm};

mod old;
// The very file that runs inside the virtual machines.
#[allow(dead_code, reason = "only process 1 packs")]
#[path = "../../tests/vm/init/src/capture.rs"]
mod tree;

use tree::{Entry, Tree};

/// Where the subject's program lies: its path is in the tree.
const PLACE: &str = "/tmp/aiops-capture";
/// Its memory cgroup.
const GROUP: &str = "/aiops-capture";

/// The chore.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let (dir, tree) = match words[..] {
        [dir] => (dir, here(&[])?),
        [dir, "--pid", pids] => (dir, here(&numbers(pids)?)?),
        [dir, "--vm", series] => (dir, unpack(&vm::captured(series)?)?),
        [dir, "--as-3.10", source] => (dir, old::shaped(load(Path::new(source))?)),
        _ => bail!("usage: capture DIR [--pid P,P | --vm 6.1 | --as-3.10 TREE]"),
    };
    let dir = util::root()?.join(dir);
    let bytes = write(&tree, &dir)?;
    println!("{}: {} files, {bytes} bytes", dir.display(), tree.len());
    Ok(())
}

fn numbers(text: &str) -> Result<Vec<u32>> {
    let number = |word: &str| word.parse().with_context(|| format!("{word} is no pid"));
    text.split(',').map(number).collect()
}

/// The processes of our own making, ended at the end, also after a failure.
struct Stage(Vec<Child>, PathBuf);

impl Drop for Stage {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir(&self.1);
        let _ = std::fs::remove_dir_all(PLACE);
    }
}

/// This kernel: the subject, its zombie, a dynamic program, two kernel threads, and whoever is named.
fn here(more: &[u32]) -> Result<Tree> {
    ensure!(util::is_root(), "a whole tree needs root");
    let built = util::build("vm-init", "ci")?;
    std::fs::create_dir_all(PLACE).context(PLACE)?;
    let v1 = Path::new("/sys/fs/cgroup/memory/memory.usage_in_bytes").exists();
    let base = if v1 {
        "/sys/fs/cgroup/memory"
    } else {
        "/sys/fs/cgroup"
    };
    let group = PathBuf::from(format!("{base}{GROUP}"));
    let mut stage = Stage(Vec::new(), group.clone());
    std::fs::create_dir_all(&group).with_context(|| group.display().to_string())?;
    let limit = if v1 {
        "memory.limit_in_bytes"
    } else {
        "memory.max"
    };
    std::fs::write(group.join(limit), (64_u64 << 20).to_string())?;
    let program = format!("{PLACE}/subject");
    std::fs::copy(&built, &program).context("the subject's program")?;
    let procs = group.join("cgroup.procs");
    let mut subject = Command::new(&program)
        .arg("subject")
        .arg(&procs)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("the subject")?;
    let out = subject.stdout.take().context("no pipe")?;
    let pid = subject.id();
    stage.0.push(subject);
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line)?;
    let zombie = line
        .trim()
        .strip_prefix("ready ")
        .context("the subject is not ready")?;
    let zombie: u32 = zombie.parse()?;
    let sleeper = Command::new("sleep")
        .arg("1000")
        .env_clear()
        .current_dir("/")
        .spawn()?;
    let mut pids = vec![pid, zombie, sleeper.id()];
    std::fs::write(&procs, sleeper.id().to_string()).context("the sleeper's group")?;
    stage.0.push(sleeper);
    pids.extend(
        ["kthreadd", "kswapd0"]
            .iter()
            .filter_map(|name| named(name)),
    );
    pids.extend(more);
    Ok(tree::take(&pids, &[GROUP]))
}

fn named(name: &str) -> Option<u32> {
    let pids = std::fs::read_dir("/proc").ok()?;
    let mut pids = pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.find(|pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name)
    })
}

/// What [`tree::pack`] packed.
fn unpack(mut bytes: &[u8]) -> Result<Tree> {
    let mut tree = Tree::new();
    while !bytes.is_empty() {
        let end = bytes
            .iter()
            .position(|byte| *byte == b'\n')
            .context("a header without end")?;
        let header = std::str::from_utf8(&bytes[..end])?;
        let words: Vec<&str> = header.split(' ').collect();
        let [kind, name, length] = words[..] else {
            bail!("no header: {header}");
        };
        let from = end + 1;
        let to = from.checked_add(length.parse()?).context("a length")?;
        let content = bytes.get(from..to).context("the tree is cut")?.to_vec();
        let entry = if kind == "link" {
            Entry::Link(content)
        } else {
            Entry::File(content)
        };
        tree.push((name.to_owned(), entry));
        bytes = bytes.get(to + 1..).context("the tree is cut")?;
    }
    Ok(tree)
}

/// A tree from its folder.
fn load(root: &Path) -> Result<Tree> {
    let mut tree = Tree::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            let kind = std::fs::symlink_metadata(&path)?.file_type();
            if kind.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(root)?.to_string_lossy().into_owned();
            let entry = if kind.is_symlink() {
                let target = std::fs::read_link(&path)?;
                Entry::Link(target.to_string_lossy().into_owned().into_bytes())
            } else {
                Entry::File(std::fs::read(&path)?)
            };
            if name != "README.md" {
                tree.push((name, entry));
            }
        }
    }
    tree.sort_by(|left, right| left.0.cmp(&right.0));
    Ok(tree)
}

/// Writes it below a folder that must not have one yet; a README stays.
fn write(tree: &Tree, dir: &Path) -> Result<usize> {
    for old in ["proc", "sys", "etc"] {
        ensure!(
            !dir.join(old).exists(),
            "{} has a tree: remove it first",
            dir.display()
        );
    }
    let mut bytes = 0;
    for (name, entry) in tree {
        let inside = Path::new(name)
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        ensure!(inside, "{name} leaves the tree");
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().context("a folder")?)?;
        match entry {
            Entry::File(content) => {
                bytes += content.len();
                std::fs::write(&path, content).with_context(|| name.clone())?;
            }
            Entry::Link(target) => {
                std::os::unix::fs::symlink(String::from_utf8_lossy(target).as_ref(), &path)?;
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_tree_comes_out_as_it_was() {
        let tree: Tree = vec![
            (
                "proc/1/stat".to_owned(),
                Entry::File(b"1 (a\nb) S\n".to_vec()),
            ),
            ("proc/1/exe".to_owned(), Entry::Link(b"/init".to_vec())),
        ];
        let bytes = tree::pack(&tree);
        let again = unpack(&bytes).expect("whole");
        assert_eq!(tree::pack(&again), bytes);
        assert!(unpack(&bytes[..bytes.len() - 3]).is_err());
    }
}
