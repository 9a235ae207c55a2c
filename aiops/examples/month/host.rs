//! Whose store it is.

use aiops::model::Host;
use aiops::model::RawText;

use crate::MEMORY_KB;

/// This host, so that its commands take the store for their own.
pub(crate) fn host() -> Host {
    let name = rustix::system::uname();
    Host {
        hostname: RawText::new(name.nodename().to_bytes()),
        kernel: RawText::new(name.release().to_bytes()),
        arch: name.machine().to_string_lossy().into_owned(),
        boot_id: Some("5eed0001-0000-4000-8000-000000000000".to_owned()),
        mem_total_kb: Some(MEMORY_KB),
        page_size: Some(4096),
        ticks_per_s: Some(100),
        cpus: Some(16),
        memory_cgroup: Some(2),
        utc_offset_s: Some(0),
    }
}
