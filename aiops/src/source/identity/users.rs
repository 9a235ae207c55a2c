//! Who a process is, asked once: for the commands that look at /proc and go.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use super::read;
use crate::model::Identity;
use crate::model::ProcessSample;
use crate::model::RawText;
use crate::source::buildid;
use crate::source::clock;
use crate::source::container;
use crate::source::files;
use crate::source::procdir::ProcDir;

/// Names of users, from ROOT/etc/passwd.
#[derive(Debug, Default)]
pub struct Users(HashMap<u32, String>);

impl Users {
    /// Reads ROOT/etc/passwd; without it no user has a name.
    #[must_use]
    pub fn read(root: &Path) -> Self {
        let text = files::read(&root.join("etc/passwd")).unwrap_or_default();
        Self(Self::parse(&text))
    }

    /// `NAME:PASSWORD:UID:…`; the first name of an id counts, as for getpwuid(3).
    fn parse(text: &[u8]) -> HashMap<u32, String> {
        let mut users = HashMap::new();
        for line in String::from_utf8_lossy(text).lines() {
            let mut fields = line.split(':');
            let (Some(name), Some(uid)) = (fields.next(), fields.nth(1)) else {
                continue;
            };
            if let Ok(uid) = uid.parse() {
                users.entry(uid).or_insert_with(|| name.to_owned());
            }
        }
        users
    }

    /// The id of a user; the smallest where several have the name.
    #[must_use]
    pub fn id(&self, name: &str) -> Option<u32> {
        let ids = self.0.iter().filter(|(_, known)| *known == name);
        ids.map(|(id, _)| *id).min()
    }

    /// The name of a user.
    #[must_use]
    pub fn name(&self, uid: u32) -> Option<&str> {
        self.0.get(&uid).map(String::as_str)
    }
}

/// Reads who a process is, without its mappings.
///
/// # Errors
/// As reading ROOT/proc/PID/stat: `NotFound` when it is gone.
pub fn identify(root: &Path, pid: u32, users: &Users) -> io::Result<Identity> {
    Ok(told(read::facts(root, pid, None)?, pid, users))
}

/// Reads who a process is, with its executable mappings.
///
/// # Errors
/// As reading ROOT/proc/PID/stat: `NotFound` when it is gone.
pub fn identify_mapped(
    root: &Path,
    pid: u32,
    users: &Users,
    build_ids: &mut buildid::Cache,
) -> io::Result<Identity> {
    let mut facts = read::facts(root, pid, Some(build_ids))?;
    let mappings = facts.mappings.take().unwrap_or_default();
    Ok(Identity {
        mappings,
        ..told(facts, pid, users)
    })
}

/// Reads who a process is that is being sampled, through its open folder.
#[must_use]
pub fn identify_open(dir: &ProcDir, process: &ProcessSample, users: &Users) -> Identity {
    told(read::facts_of(dir, process), process.pid, users)
}

fn told(facts: read::Facts, pid: u32, users: &Users) -> Identity {
    let cmdline = facts.cmdline.unwrap_or_default();
    let cmdline = cmdline.strip_suffix(b"\0").unwrap_or(&cmdline);
    let arguments = cmdline.split(|byte| *byte == 0).map(RawText::new);
    Identity {
        ts_ns: clock::mono_ns(),
        pid,
        start_ticks: Some(facts.start_ticks),
        ppid: Some(facts.ppid),
        comm: RawText::new(facts.comm),
        cmdline: arguments.filter(|_| !cmdline.is_empty()).collect(),
        exe: facts.exe.map(RawText::new),
        uid: facts.uid,
        user: facts.uid.and_then(|uid| users.name(uid)).map(str::to_owned),
        unit: facts.unit,
        container: facts.cgroup.as_deref().and_then(container::from_cgroup),
        cgroup: facts.cgroup.map(RawText::new),
        mappings: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_an_id_counts() {
        let users = Users(Users::parse(
            b"root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:/bin/sh\nbroken\n\xff:x:9:9::/:\n",
        ));
        assert_eq!(users.name(0), Some("root"));
        assert_eq!(users.name(1), None);
        assert!(users.name(9).is_some());
    }

    #[test]
    fn this_process_is_identified() {
        let users = Users::read(Path::new("/"));
        let own = identify(Path::new("/"), std::process::id(), &users).unwrap();
        assert!(!own.cmdline.is_empty() && own.start_ticks.is_some());
        assert_eq!(own.uid, Some(rustix::process::getuid().as_raw()));
    }
}
