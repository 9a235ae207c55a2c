//! Debug files that belong to a build id: installed ones, and those that other tools have fetched.
//!
//! Nothing is fetched from a network here.

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;

use crate::source::buildid;
use crate::source::procdir::ProcDir;

/// What a child keeps of its environment: where debuginfod's clients keep what they fetched.
pub(super) const VARIABLES: [&str; 3] = ["DEBUGINFOD_CACHE_PATH", "XDG_CACHE_HOME", "HOME"];

/// Folders with `BUILDID/debuginfo`.
fn caches(variable: &dyn Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let [own, cache, home] = VARIABLES.map(|name| variable(name).map(PathBuf::from));
    let mut found: Vec<PathBuf> = own.into_iter().collect();
    found.extend(cache.map(|path| path.join("debuginfod_client")));
    if let Some(home) = home {
        found.push(home.join(".cache/debuginfod_client"));
        found.push(home.join(".debuginfod_client_cache"));
    }
    found.push(PathBuf::from("/var/cache/debuginfod_client"));
    found.retain(|path| path.is_absolute());
    found
}

/// The debug file of a build id; `dir`: a process whose container may have it.
pub(super) fn open(build_id: &str, dir: Option<&ProcDir>) -> Option<File> {
    open_in(build_id, dir, &caches(&|name| std::env::var_os(name)))
}

fn open_in(build_id: &str, dir: Option<&ProcDir>, caches: &[PathBuf]) -> Option<File> {
    let is_hex = build_id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (first, rest) = build_id.split_at_checked(2).filter(|_| is_hex)?;
    let installed = format!("/usr/lib/debug/.build-id/{first}/{rest}.debug");
    let own = || dir.and_then(|dir| dir.file(&[b"root", installed.as_bytes()].concat()).ok());
    let host = || ProcDir::host_file(installed.as_bytes()).ok();
    let fetched = || {
        let file = |cache: &PathBuf| cached(cache, build_id);
        caches.iter().find_map(file)
    };
    let is_it = |file: &File| {
        let is_file = file.metadata().is_ok_and(|meta| meta.is_file());
        is_file && buildid::read(file).as_deref() == Some(build_id)
    };
    own()
        .filter(is_it)
        .or_else(|| host().filter(is_it))
        .or_else(|| fetched().filter(is_it))
}

fn cached(cache: &Path, build_id: &str) -> Option<File> {
    let path = cache.join(build_id).join("debuginfo");
    ProcDir::host_file(path.as_os_str().as_encoded_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fetched_file_counts_when_its_build_id_is_right() {
        let own = File::open("/proc/self/exe").unwrap();
        let Some(id) = buildid::read(&own) else {
            println!("SKIPPED: this program has no build id");
            return;
        };
        let cache = std::env::temp_dir().join(format!("aiops-debuginfod-{}", std::process::id()));
        let place = |id: &str| cache.join(id);
        for id in [id.as_str(), "abcdef"] {
            std::fs::create_dir_all(place(id)).unwrap();
            std::os::unix::fs::symlink("/proc/self/exe", place(id).join("debuginfo")).unwrap();
        }
        let caches = [cache.clone()];
        let found =
            [&id, "abcdef", "../../etc", "a", ""].map(|id| open_in(id, None, &caches).is_some());
        std::fs::remove_dir_all(cache).unwrap();
        assert_eq!(found, [true, false, false, false, false]);
    }

    #[test]
    fn caches_are_those_of_the_environment() {
        let set = |name: &str| match name {
            "HOME" => Some(OsString::from("/u")),
            "XDG_CACHE_HOME" => Some(OsString::from("relative")),
            _ => None,
        };
        let found = caches(&set);
        assert_eq!(found[0], Path::new("/u/.cache/debuginfod_client"));
        assert_eq!(found.len(), 3);
    }
}
