//! The file of settings, /etc/aiops/config.toml: what may stand there. What it means, and that the command
//! line goes first, is the command's.

use std::fs::File;
use std::io;
use std::io::Read as _;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;

use serde::Deserialize;

use crate::diag;

/// Where it is unless said otherwise; there it may be missing.
pub const CONFIG: &str = "/etc/aiops/config.toml";

/// What stands in the file: all of it may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Between samples: `5s`.
    pub interval: Option<String>,
    /// Share of one CPU for reading PSS: `0.2%`.
    pub smaps_budget: Option<String>,
    /// Where metrics are served: `127.0.0.1:9464`.
    pub metrics: Option<String>,
    /// Whether other hosts may read them.
    pub metrics_public: Option<bool>,
    /// How long history is kept: `30d`.
    pub keep: Option<String>,
    /// Most bytes of it: `1GiB`.
    pub max_size: Option<String>,
    /// Whether hooks capture OOM kills.
    pub bpf: Option<bool>,
    /// Processes that metrics name: the largest.
    pub top: Option<usize>,
}

/// The text of a file, by whatever name it is linked; /dev/null is one without settings. A pipe would wait for its
/// writer.
fn text_of(path: &Path) -> io::Result<String> {
    let mut file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    let kind = file.metadata()?.file_type();
    if !kind.is_file() && !kind.is_char_device() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text)
}

impl Config {
    /// Reads it. `said` is a file that was asked for; without one, the usual place counts if there is one.
    ///
    /// # Errors
    /// It cannot be read, or something in it is wrong: with the place and a remedy.
    pub fn read(said: Option<&Path>) -> anyhow::Result<Self> {
        let path = said.map_or_else(|| PathBuf::from(CONFIG), Path::to_path_buf);
        let text = match text_of(&path) {
            Ok(text) => text,
            Err(error) if said.is_none() && error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => {
                let error =
                    anyhow::Error::new(error).context(format!("cannot read {}", path.display()));
                return Err(diag::hint(error, "name another file: --config FILE"));
            }
        };
        toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| {
                1 + text[..span.start.min(text.len())].matches('\n').count()
            });
            bad(&path, &format!("line {line}: {}", error.message()))
        })
    }
}

/// Says that a file of settings is wrong.
#[must_use]
pub fn bad(path: &Path, what: &str) -> anyhow::Error {
    let error = anyhow::anyhow!("{}: {what}", path.display());
    diag::hint(
        error,
        "keys are interval, smaps_budget, metrics, metrics_public, keep, max_size, bpf, top; `aiops monitor memory --help` says what each takes",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> anyhow::Result<Config> {
        let path = std::env::temp_dir().join(format!(
            "aiops-config-{}-{:x}.toml",
            std::process::id(),
            text.len()
        ));
        std::fs::write(&path, text).unwrap();
        let read = Config::read(Some(&path));
        std::fs::remove_file(&path).unwrap();
        read
    }

    #[test]
    fn keys_and_their_kinds() {
        let config = read("interval = \"2s\"\nbpf = false\ntop = 5\n").unwrap();
        assert_eq!(config.interval.as_deref(), Some("2s"));
        assert_eq!((config.bpf, config.top), (Some(false), Some(5)));
        assert_eq!(read("").unwrap(), Config::default());
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        for (text, what) in [
            ("\nintervall = \"2s\"", "line 2: unknown field `intervall`"),
            ("bpf = \"no\"", "line 1: invalid type"),
            ("interval = ", "line 1:"),
        ] {
            let error = format!("{:#}", read(text).unwrap_err());
            assert!(error.contains(what), "{error}");
        }
        assert!(Config::read(Some(Path::new("/nonexistent/x.toml"))).is_err());
        let folder = crate::testing::Folder::new("config-pipe");
        let pipe = folder.file("config.toml");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(Config::read(Some(&pipe)).is_err(), "and it does not wait");
    }
}
