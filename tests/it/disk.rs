//! What a disk may hold after a power cut: a model of files and folders that is fed with the system calls of a program
//! as strace saw them, and hands out what may be left of them.
//!
//! The rules are those of POSIX, stricter than most file systems:
//! - bytes are durable when their file was synced; before, each sector of 512 bytes is there or not;
//! - a name is durable when its folder was synced, whatever became of the file; before, what was done to names is
//!   there up to some point, each folder for itself, and a rename between two folders binds them.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// Calls that are looked at: all that may change a file or a name, also those that we do not expect.
pub(crate) const CALLS: &str = "trace=open,openat,openat2,creat,close,write,pwrite64,writev,pwritev,pwritev2,fsync,\
    fdatasync,sync,syncfs,sync_file_range,truncate,ftruncate,fallocate,rename,renameat,renameat2,link,linkat,symlink,\
    symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir,dup,dup2,dup3,fcntl,lseek,copy_file_range,sendfile,splice,\
    io_uring_setup";

/// Numbers that look random and are the same each time (splitmix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((x ^ (x >> 31)) % sides as u64).expect("few sides")
    }
}

/// One call of the log: its name, its arguments, what it returned (not negative).
struct Call {
    name: String,
    args: Vec<String>,
    result: i64,
}

/// Arguments, cut at commas outside of braces.
fn arguments(text: &str) -> Vec<String> {
    let (mut args, mut depth) = (vec![String::new()], 0);
    for letter in text.chars() {
        depth += i32::from("[{(".contains(letter)) - i32::from("]})".contains(letter));
        match letter {
            ',' if depth == 0 => args.push(String::new()),
            _ => args.last_mut().expect("one").push(letter),
        }
    }
    args.iter().map(|arg| arg.trim().to_owned()).collect()
}

/// Calls that succeeded, in the order in which they ended.
fn calls(log: &str) -> Vec<Call> {
    let mut begun: HashMap<&str, String> = HashMap::new();
    let mut calls = Vec::new();
    for line in log.lines() {
        let Some((pid, rest)) = line.split_once(' ') else {
            continue;
        };
        let rest = rest.trim_start();
        let mut whole = rest.to_owned();
        if let Some((head, _)) = rest.split_once("<unfinished ...>") {
            begun.insert(pid, head.trim_end().to_owned());
            continue;
        }
        if rest.starts_with("<... ") {
            let (_, tail) = rest.split_once("resumed>").expect("a call goes on");
            whole = begun.remove(pid).expect("it began") + tail;
        }
        let parts = whole.rsplit_once(" = ");
        let Some((call, result)) = parts.filter(|(call, _)| call.trim_end().ends_with(')')) else {
            continue;
        };
        let result = result.split(' ').next().and_then(|text| text.parse().ok());
        let Some(result) = result.filter(|result: &i64| *result >= 0) else {
            continue;
        };
        let call = call.trim_end().strip_suffix(')').expect("it ends");
        let (name, args) = call.split_once('(').expect("a call");
        calls.push(Call {
            name: name.to_owned(),
            args: arguments(args),
            result,
        });
    }
    calls
}

/// Bytes of a string of strace -xx.
fn bytes(text: &str) -> Vec<u8> {
    let inner = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    let inner = inner.unwrap_or_else(|| panic!("cut short: {} letters", text.len()));
    let digits = inner.split("\\x").skip(1);
    digits
        .map(|two| u8::from_str_radix(two, 16).expect("hex"))
        .collect()
}

fn name(text: &str) -> String {
    String::from_utf8(bytes(text)).expect("UTF-8")
}

/// A change of a file's bytes that is not durable.
#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Cut(usize),
}

impl Change {
    /// Makes it; of a write those sectors that are wanted.
    fn make(&self, file: &mut Vec<u8>, mut whether: impl FnMut() -> bool) {
        const SECTOR: usize = 512;
        match self {
            Self::Cut(len) => file.resize(*len, 0),
            Self::Write(place, bytes) => {
                let mut at = 0;
                while at < bytes.len() {
                    let next = ((place + at) / SECTOR + 1) * SECTOR - place;
                    let next = next.min(bytes.len());
                    if whether() {
                        if file.len() < place + next {
                            file.resize(place + next, 0);
                        }
                        file[place + at..place + next].copy_from_slice(&bytes[at..next]);
                    }
                    at = next;
                }
            }
        }
    }
}

/// A file or a folder, whatever its name.
#[derive(Clone, Default)]
struct Inode {
    is_folder: bool,
    /// What is durable of a file.
    durable: Vec<u8>,
    changes: Vec<Change>,
    /// What stands in a folder now, and what is durable of that.
    now: BTreeMap<String, usize>,
    names: BTreeMap<String, usize>,
}

/// Names that change at once: folder, name, and what it stands for then.
type Names = Vec<(usize, String, Option<usize>)>;

/// An open file, maybe under several numbers.
#[derive(Clone)]
struct Open {
    inode: usize,
    place: usize,
    append: bool,
    /// Each write is durable when it returns.
    durable: bool,
}

/// How much is left of what was not durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// Nothing.
    None,
    /// Everything, as after a kill.
    All,
    /// Names, but no bytes.
    Names,
    /// Names and sizes, zeros as bytes.
    Zeros,
    /// Names up to some point, files as they come.
    Some,
    /// Each folder and each sector for itself.
    Any,
}

/// Files below a folder: names, and bytes of those that are no folders.
pub(crate) type Tree = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// A disk, and the program that writes to it.
pub(crate) struct Disk {
    root: PathBuf,
    inodes: Vec<Inode>,
    waiting: Vec<Names>,
    files: Vec<Open>,
    numbers: HashMap<i64, usize>,
    /// Something was written since the last step.
    wrote: bool,
}

/// What a call did below the root.
enum Did {
    Nothing,
    /// Bytes that are not durable yet.
    Write,
    /// Bytes that are durable as the call ends.
    DurableWrite(usize),
    /// Anything else.
    Change,
}

impl Disk {
    /// Hands out every step of a log below `root`, which was empty: the lines that the program said so far, and the
    /// disk.
    pub(crate) fn replay(log: &str, root: &Path, mut step: impl FnMut(&str, &Disk)) -> Disk {
        let mut disk = Disk {
            root: root.to_path_buf(),
            inodes: vec![Inode {
                is_folder: true,
                ..Inode::default()
            }],
            waiting: Vec::new(),
            files: Vec::new(),
            numbers: HashMap::new(),
            wrote: false,
        };
        let mut said = String::new();
        for call in calls(log) {
            if call.name == "write" && call.args[0] == "1" {
                said.push_str(&String::from_utf8_lossy(&bytes(&call.args[1])));
                continue;
            }
            // What may be left between two writes that are not durable may be left behind the second one, too.
            let writes = call.name == "write";
            if !writes && std::mem::take(&mut disk.wrote) {
                step(&said, &disk);
            }
            match disk.call(&call) {
                Did::Nothing => {}
                Did::Write => disk.wrote = true,
                Did::Change => step(&said, &disk),
                Did::DurableWrite(inode) => {
                    // It was under way, and then it was durable.
                    step(&said, &disk);
                    disk.sync(inode);
                    step(&said, &disk);
                }
            }
        }
        disk
    }

    /// The inode of a path below the root, and of its folder with its name there.
    fn find(&self, folder: &str, path: &str) -> Option<(Option<usize>, usize, String)> {
        let path = name(path);
        let path = Path::new(&path);
        let (mut at, rest) = if path.is_absolute() {
            (0, path.strip_prefix(&self.root).ok()?)
        } else {
            let number = folder.parse::<i64>().ok()?;
            (self.files[*self.numbers.get(&number)?].inode, path)
        };
        let mut parts = rest.iter().map(|part| part.to_str().expect("UTF-8"));
        let Some(mut last) = parts.next() else {
            return Some((Some(at), at, String::new()));
        };
        for part in parts {
            at = *self.inodes[at].now.get(last)?;
            last = part;
        }
        Some((self.inodes[at].now.get(last).copied(), at, last.to_owned()))
    }

    fn rename(&mut self, names: Names) {
        for (folder, name, inode) in &names {
            let now = &mut self.inodes[*folder].now;
            match inode {
                Some(inode) => now.insert(name.clone(), *inode),
                None => now.remove(name),
            };
        }
        self.waiting.push(names);
    }

    fn create(&mut self, folder: usize, name: String, is_folder: bool) -> usize {
        let inode = self.inodes.len();
        self.inodes.push(Inode {
            is_folder,
            ..Inode::default()
        });
        self.rename(vec![(folder, name, Some(inode))]);
        inode
    }

    fn file(&mut self, number: &str) -> Option<&mut Open> {
        let number = number.parse::<i64>().ok()?;
        Some(&mut self.files[*self.numbers.get(&number)?])
    }

    /// Everything of an inode is durable, and of a folder what had to be done before.
    fn sync(&mut self, inode: usize) {
        let one = &mut self.inodes[inode];
        for change in one.changes.drain(..) {
            change.make(&mut one.durable, || true);
        }
        let mut touched = BTreeSet::from([inode]);
        let mut later = Vec::new();
        let mut done = Vec::new();
        for names in std::mem::take(&mut self.waiting).into_iter().rev() {
            if one.is_folder && names.iter().any(|(folder, ..)| touched.contains(folder)) {
                touched.extend(names.iter().map(|(folder, ..)| *folder));
                done.push(names);
            } else {
                later.push(names);
            }
        }
        later.reverse();
        self.waiting = later;
        for (folder, name, inode) in done.into_iter().rev().flatten() {
            let names = &mut self.inodes[folder].names;
            match inode {
                Some(inode) => names.insert(name, inode),
                None => names.remove(&name),
            };
        }
    }

    fn call(&mut self, call: &Call) -> Did {
        self.try_call(call).unwrap_or(Did::Nothing)
    }

    /// Does what a call did; `None`: nothing below the root.
    fn try_call(&mut self, call: &Call) -> Option<Did> {
        let args = &call.args;
        match call.name.as_str() {
            "openat" => {
                let (found, folder, name) = self.find(&args[0], &args[1])?;
                let has = |flag: &str| args[2].split('|').any(|one| one == flag);
                let is_new = found.is_none();
                assert!(!is_new || has("O_CREAT"), "{name} is there");
                let inode = found.unwrap_or_else(|| self.create(folder, name, false));
                if has("O_TRUNC") && !is_new {
                    self.inodes[inode].changes.push(Change::Cut(0));
                }
                self.numbers.insert(call.result, self.files.len());
                self.files.push(Open {
                    inode,
                    place: 0,
                    append: has("O_APPEND"),
                    durable: has("O_DSYNC") || has("O_SYNC"),
                });
                (is_new || has("O_TRUNC")).then_some(Did::Change)
            }
            "close" => {
                let number = args[0].parse().expect("a number");
                self.numbers.remove(&number);
                None
            }
            "fcntl" | "dup" => {
                self.file(&args[0])?;
                if call.name == "dup" || args[1].starts_with("F_DUPFD") {
                    let number: i64 = args[0].parse().expect("a number");
                    self.numbers.insert(call.result, self.numbers[&number]);
                }
                None
            }
            "lseek" => {
                self.file(&args[0])?.place = usize::try_from(call.result).expect("a place");
                None
            }
            "write" | "pwrite64" => {
                let len = usize::try_from(call.result).expect("a length");
                let inode = self.file(&args[0])?.inode;
                let size = self.now(inode).len();
                let file = self.file(&args[0])?;
                let place = match args.get(3) {
                    Some(place) => place.parse().expect("a place"),
                    None => {
                        let place = if file.append { size } else { file.place };
                        file.place = place + len;
                        place
                    }
                };
                let durable = file.durable;
                let mut bytes = bytes(&args[1]);
                bytes.truncate(len);
                self.inodes[inode].changes.push(Change::Write(place, bytes));
                Some(if durable {
                    Did::DurableWrite(inode)
                } else {
                    Did::Write
                })
            }
            "fsync" | "fdatasync" => {
                let inode = self.file(&args[0])?.inode;
                self.sync(inode);
                Some(Did::Change)
            }
            "ftruncate" => {
                let len = args[1].parse().expect("a length");
                let inode = self.file(&args[0])?.inode;
                self.inodes[inode].changes.push(Change::Cut(len));
                Some(Did::Change)
            }
            "rename" | "renameat" | "renameat2" => {
                let (from, to) = match call.name.as_str() {
                    "rename" => (["", &args[0]], ["", &args[1]]),
                    _ => ([&*args[0], &*args[1]], [&*args[2], &*args[3]]),
                };
                let (inode, folder, name) = self.find(from[0], from[1])?;
                let (_, other, new) = self.find(to[0], to[1]).expect("it stays here");
                self.rename(vec![(folder, name, None), (other, new, inode)]);
                Some(Did::Change)
            }
            "link" | "linkat" => {
                let (from, to) = match call.name.as_str() {
                    "link" => (["", &args[0]], ["", &args[1]]),
                    _ => ([&*args[0], &*args[1]], [&*args[2], &*args[3]]),
                };
                let (inode, ..) = self.find(from[0], from[1])?;
                let (_, folder, name) = self.find(to[0], to[1]).expect("it stays here");
                self.rename(vec![(folder, name, inode)]);
                Some(Did::Change)
            }
            "unlink" | "rmdir" | "unlinkat" => {
                let path = match call.name.as_str() {
                    "unlinkat" => [&*args[0], &*args[1]],
                    _ => ["", &args[0]],
                };
                let (found, folder, name) = self.find(path[0], path[1])?;
                assert!(found.is_some(), "{name} is there");
                self.rename(vec![(folder, name, None)]);
                Some(Did::Change)
            }
            "mkdir" | "mkdirat" => {
                let path = match call.name.as_str() {
                    "mkdirat" => [&*args[0], &*args[1]],
                    _ => ["", &args[0]],
                };
                let (_, folder, name) = self.find(path[0], path[1])?;
                self.create(folder, name, true);
                Some(Did::Change)
            }
            "sync" | "io_uring_setup" => panic!("the model does not know {}", call.name),
            other => {
                // Of other files and pipes of the program, maybe.
                let ours = args.iter().any(|arg| {
                    let number = arg.parse::<i64>();
                    number.is_ok_and(|number| self.numbers.contains_key(&number))
                        || (arg.starts_with('"') && self.find("", arg).is_some())
                });
                assert!(!ours, "the model does not know {other}");
                None
            }
        }
    }

    /// What a reader sees of a file.
    fn now(&self, inode: usize) -> Vec<u8> {
        let mut bytes = self.inodes[inode].durable.clone();
        let changes = self.inodes[inode].changes.iter();
        changes.for_each(|change| change.make(&mut bytes, || true));
        bytes
    }

    /// What may be left of a file.
    fn bytes(&self, inode: usize, left: Left, dice: &mut Dice) -> Vec<u8> {
        let one = &self.inodes[inode];
        let chance = match left {
            Left::None | Left::Names => return one.durable.clone(),
            Left::All => return self.now(inode),
            Left::Zeros => {
                let mut bytes = one.durable.clone();
                bytes.resize(self.now(inode).len().max(bytes.len()), 0);
                return bytes;
            }
            Left::Some | Left::Any => [0, 30, 70, 100][dice.roll(4)],
        };
        // A journal keeps changes of sizes in order: what was written behind one that is lost is lost, too.
        let cuts = one.changes.iter();
        let cuts = cuts.filter(|change| matches!(change, Change::Cut(_)));
        let mut kept = dice.roll(cuts.count() + 1);
        let mut bytes = one.durable.clone();
        for change in &one.changes {
            if matches!(change, Change::Cut(_)) {
                if kept == 0 {
                    break;
                }
                kept -= 1;
            }
            change.make(&mut bytes, || dice.roll(100) < chance);
        }
        bytes
    }

    /// What may be left of everything below the root.
    pub(crate) fn left(&self, left: Left, dice: &mut Dice) -> Tree {
        let mut folders: Vec<_> = self.inodes.iter().map(|one| one.names.clone()).collect();
        let most = dice.roll(self.waiting.len() + 1);
        let mut lost: BTreeSet<usize> = BTreeSet::new();
        for (number, names) in self.waiting.iter().enumerate() {
            let is_left = match left {
                Left::None => false,
                Left::All | Left::Names | Left::Zeros => true,
                Left::Some => number < most,
                Left::Any => {
                    dice.roll(100) < 70 && names.iter().all(|(one, ..)| !lost.contains(one))
                }
            };
            if !is_left {
                lost.extend(names.iter().map(|(folder, ..)| *folder));
                continue;
            }
            for (folder, name, inode) in names {
                match inode {
                    Some(inode) => folders[*folder].insert(name.clone(), *inode),
                    None => folders[*folder].remove(name),
                };
            }
        }
        let mut tree = Tree::new();
        let mut open = vec![(PathBuf::new(), 0)];
        while let Some((path, folder)) = open.pop() {
            for (name, inode) in &folders[folder] {
                let path = path.join(name);
                if self.inodes[*inode].is_folder {
                    open.push((path.clone(), *inode));
                    tree.insert(path, None);
                } else {
                    tree.insert(path, Some(self.bytes(*inode, left, dice)));
                }
            }
        }
        tree
    }
}

/// What stands below a folder.
pub(crate) fn read(folder: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(place) = open.pop() {
        for entry in fs::read_dir(&place).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.strip_prefix(folder).expect("below").to_path_buf();
            if path.is_dir() {
                tree.insert(name, None);
                open.push(path);
            } else {
                tree.insert(name, Some(fs::read(&path).expect("a file")));
            }
        }
    }
    tree
}

/// Puts it into a folder that is not there.
pub(crate) fn write(tree: &Tree, folder: &Path) {
    use std::os::unix::fs::DirBuilderExt as _;
    let create = |path: &Path| fs::DirBuilder::new().mode(0o700).create(path);
    create(folder).expect("a folder");
    for (name, bytes) in tree {
        let path = folder.join(name);
        match bytes {
            // Folders come before what is in them.
            None => create(&path).expect("a folder"),
            Some(bytes) => fs::write(&path, bytes).expect("a file"),
        }
    }
}
