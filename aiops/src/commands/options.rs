//! Options that several commands share: the same name means the same everywhere.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::analysis::grouping::By;
use crate::cli;
use crate::cli::Context;
use crate::model::Filter;
use crate::session::Record;
use crate::session::trace;
use crate::source::bpf::hooks::Family;

/// Which processes.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Which processes")]
pub(super) struct FilterArgs {
    /// Only these process ids.
    #[arg(long, value_name = "PID,PID", value_delimiter = ',')]
    pub(super) pid: Vec<u32>,
    /// Only processes with this name.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(super) comm: Vec<String>,
    /// Only processes in this memory cgroup or below it, as the kernel prints its path.
    #[arg(long, value_name = "PATH", value_delimiter = ',')]
    pub(super) cgroup: Vec<String>,
    /// Only processes of this container: its id (7 characters are enough), `runtime:id` or its pod's uid.
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub(super) container: Vec<String>,
    /// Only processes of this user, by name or id.
    #[arg(long, value_name = "USER", value_delimiter = ',')]
    pub(super) user: Vec<String>,
}

impl FilterArgs {
    /// As the sources take it.
    pub(super) fn filter(&self) -> Filter {
        Filter {
            pids: self.pid.clone(),
            comms: self.comm.iter().map(|name| kernel_name(name)).collect(),
            cgroups: self.cgroup.iter().map(|path| kernel_path(path)).collect(),
            containers: self.container.clone(),
            users: self.user.clone(),
        }
    }
}

/// Options of live traces.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct TraceArgs {
    /// Stop after this time: 90s, 5m, 24h. Without it, until Ctrl-C.
    #[arg(long, value_name = "TIME", value_parser = cli::duration)]
    duration: Option<Duration>,
    /// Say how it goes on stderr, this often.
    #[arg(long, value_name = "TIME", value_parser = cli::duration)]
    interval: Option<Duration>,
    /// Write everything that is seen to a recording.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Replace an existing recording.
    #[arg(long, requires = "record")]
    force: bool,
    /// Only tasks of these processes.
    #[arg(long, value_name = "PID,PID", value_delimiter = ',')]
    pid: Vec<u32>,
    /// Only threads with this name.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    comm: Vec<String>,
    /// Only tasks in this memory cgroup or below it, as the kernel prints its path.
    #[arg(long, value_name = "PATH", value_delimiter = ',')]
    cgroup: Vec<String>,
    /// Only tasks of this user, by name or id.
    #[arg(long, value_name = "USER", value_delimiter = ',')]
    user: Vec<String>,
    /// Most memory of the kernel's ring and tables; events that find no room are counted.
    #[arg(long, value_name = "SIZE", default_value = "16MiB", value_parser = bytes)]
    max_memory: u64,
    /// Rows of the text report, 0: all; JSON is whole.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(super) top: usize,
    /// Exit with 10 for findings of severity warning, 20 for critical.
    #[arg(long)]
    pub(super) exit_code: bool,
}

impl TraceArgs {
    /// As a session takes them; `noted` is what the report needs besides.
    pub(super) fn options(
        &self,
        family: Family,
        command: &str,
        noted: BTreeMap<String, String>,
        context: &Context,
    ) -> trace::Options {
        trace::Options {
            family,
            command: command.to_owned(),
            root: context.root.clone(),
            filter: Filter {
                pids: self.pid.clone(),
                comms: self.comm.iter().map(|name| kernel_name(name)).collect(),
                cgroups: self.cgroup.iter().map(|path| kernel_path(path)).collect(),
                users: self.user.clone(),
                ..Filter::default()
            },
            duration: self.duration,
            interval: self.interval,
            record: self.record.clone().map(|path| Record {
                path,
                force: self.force,
            }),
            max_memory: self.max_memory,
            options: noted,
        }
    }
}

/// What processes are put together by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum ByArg {
    /// Each alone.
    #[default]
    Process,
    /// Name.
    Comm,
    /// Memory cgroup.
    Cgroup,
    /// Container.
    Container,
    /// Real user.
    User,
    /// Systemd unit.
    Unit,
}

impl From<ByArg> for By {
    fn from(by: ByArg) -> Self {
        match by {
            ByArg::Process => Self::Process,
            ByArg::Comm => Self::Comm,
            ByArg::Cgroup => Self::Cgroup,
            ByArg::Container => Self::Container,
            ByArg::User => Self::User,
            ByArg::Unit => Self::Unit,
        }
    }
}

/// Reads a share of the contract: `10%` or `0.1`, as a fraction.
///
/// # Errors
/// Says what is wrong with the text.
pub(super) fn share(text: &str) -> Result<f64, String> {
    let (number, scale) = match text.strip_suffix('%') {
        Some(number) => (number, 0.01),
        None => (text, 1.0),
    };
    let value: f64 = number
        .trim()
        .parse()
        .map_err(|_| format!("'{text}' is no share: 10% or 0.1"))?;
    let share = value * scale;
    if (0.0..=1.0).contains(&share) {
        Ok(share)
    } else {
        Err(format!("'{text}' is not between 0% and 100%"))
    }
}

/// Reads a size of the contract: `64KiB`, `1.5GiB`, `200MB`, or bytes.
///
/// # Errors
/// Says what is wrong with the text.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = match unit.trim() {
        "" | "B" => 1.0,
        "KiB" => 1024.0,
        "MiB" => 1_048_576.0,
        "GiB" => 1_073_741_824.0,
        "TiB" => 1_099_511_627_776.0,
        "KB" | "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "TB" => 1e12,
        other => {
            return Err(format!(
                "unknown unit '{other}': use KiB, MiB, GiB, TiB, or KB, MB, GB, TB"
            ));
        }
    };
    let number: f64 = number
        .parse()
        .map_err(|_| format!("'{text}' is no size: 200MB, 1.5GiB"))?;
    let bytes = number * scale;
    if bytes < 1e18 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "digits and a point are not below 0, and it is below 1e18"
        )]
        Ok(bytes as u64)
    } else {
        Err(format!("'{text}' is too large"))
    }
}

/// A name as the kernel keeps it: 15 bytes (`TASK_COMM_LEN` without its NUL).
pub(super) fn kernel_name(name: &str) -> String {
    let mut end = name.len().min(15);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].to_owned()
}

/// A path as the kernel prints it: from the root, without a slash at its end.
pub(super) fn kernel_path(path: &str) -> String {
    format!("/{}", path.trim_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_written_as_the_kernel_does() {
        assert_eq!(kernel_name("a-name-that-is-too-long"), "a-name-that-is-");
        assert_eq!(kernel_name("内存内存内存"), "内存内存内");
        assert_eq!(kernel_path("a/b/"), "/a/b");
        assert_eq!(kernel_path("/"), "/");
    }

    #[test]
    fn sizes_of_the_contract() {
        assert_eq!(bytes("2GiB"), Ok(2 << 30));
        assert_eq!(bytes("1.5KiB"), Ok(1536));
        assert_eq!(bytes("200MB"), Ok(200_000_000));
        for bad in ["", "x", "-1G", "1X", "1e9", "9999999999TiB", "2G"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn shares_of_the_contract() {
        assert_eq!(share("10%"), Ok(0.1));
        assert_eq!(share("0.25"), Ok(0.25));
        for bad in ["", "x", "101%", "-1%", "2", "NaN"] {
            assert!(share(bad).is_err(), "{bad}");
        }
    }
}
