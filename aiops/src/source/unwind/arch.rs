//! What differs between machines: registers, and the unwinder that takes them.

use std::sync::Arc;

#[cfg(target_arch = "aarch64")]
use framehop::aarch64 as native;
#[cfg(target_arch = "x86_64")]
use framehop::x86_64 as native;

/// Bytes of unwind tables, shared by the processes that run the same file.
pub(super) type Bytes = Arc<[u8]>;

#[cfg(target_arch = "aarch64")]
pub(super) type Unwinder = native::UnwinderAarch64<Bytes>;
#[cfg(target_arch = "x86_64")]
pub(super) type Unwinder = native::UnwinderX86_64<Bytes>;

#[cfg(target_arch = "aarch64")]
pub(super) type Cache = native::CacheAarch64;
#[cfg(target_arch = "x86_64")]
pub(super) type Cache = native::CacheX86_64;

#[cfg(target_arch = "aarch64")]
pub(super) type Native = native::UnwindRegsAarch64;
#[cfg(target_arch = "x86_64")]
pub(super) type Native = native::UnwindRegsX86_64;

/// `e_machine` of files that run here.
#[cfg(target_arch = "aarch64")]
pub(super) const MACHINE: u64 = crate::source::elf::AARCH64;
/// `e_machine` of files that run here.
#[cfg(target_arch = "x86_64")]
pub(super) const MACHINE: u64 = crate::source::elf::X86_64;

/// Where a thread stands, in user mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// Instruction pointer (x86: `rip`, arm: `pc`).
    pub ip: u64,
    /// Stack pointer.
    pub sp: u64,
    /// Frame pointer (x86: `rbp`, arm: `x29`), whatever it holds.
    pub fp: u64,
    /// Link register (arm: `x30`); not there on x86.
    pub lr: u64,
}

impl Registers {
    pub(super) fn native(self) -> Native {
        #[cfg(target_arch = "x86_64")]
        {
            Native::new(self.ip, self.sp, self.fp)
        }
        #[cfg(target_arch = "aarch64")]
        {
            Native::new(self.lr, self.sp, self.fp)
        }
    }
}
