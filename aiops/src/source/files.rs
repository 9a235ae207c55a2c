//! Reading a file whole: bounded, and without waiting for anybody.
//!
//! A captured tree may hold anything under the names of /proc: a FIFO that nobody writes, a directory, a
//! file of terabytes. Files of a running kernel are regular ones that tell no size.

use std::io;
use std::path::Path;

use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;

/// Most that a file may hold. The longest of the kernel's that are read whole have some megabytes (zoneinfo
/// of a thousand CPUs, mountinfo of a hundred thousand mounts).
pub(super) const MOST_BYTES: usize = 64 << 20;

/// A whole regular file.
///
/// # Errors
/// As open(2) and read(2); `InvalidInput` for what is no regular file, `FileTooLarge` beyond
/// [`MOST_BYTES`].
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    bounded(path, MOST_BYTES)
}

fn bounded(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let file = rustix::fs::open(path, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // Files of /proc tell no size.
    let size = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
    if size > most {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut bytes = Vec::with_capacity(size.clamp(1024, 64 << 10));
    loop {
        if bytes.len() > most {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        bytes.reserve(1024);
        match rustix::io::read(&file, rustix::buffer::spare_capacity(&mut bytes)) {
            Ok(0) => return Ok(bytes),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn what_is_no_file_is_an_error_at_once() {
        let folder = std::env::temp_dir().join(format!("aiops-files-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (fifo, text, huge) = (
            folder.join("fifo"),
            folder.join("text"),
            folder.join("huge"),
        );
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            FileType::Fifo,
            Mode::RUSR | Mode::WUSR,
            0,
        )
        .unwrap();
        std::fs::write(&text, "12345").unwrap();
        let sparse = std::fs::File::create(&huge).unwrap();
        sparse.set_len(1 << 40).unwrap();
        let kind = |path: &Path| read(path).unwrap_err().kind();
        let found = (
            kind(&fifo),
            kind(&folder),
            kind(&huge),
            kind(&folder.join("x")),
        );
        let (whole, cut) = (read(&text), bounded(&text, 4));
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(
            found,
            (
                ErrorKind::InvalidInput,
                ErrorKind::InvalidInput,
                ErrorKind::FileTooLarge,
                ErrorKind::NotFound
            )
        );
        assert_eq!(whole.unwrap(), b"12345");
        assert_eq!(cut.unwrap_err().kind(), ErrorKind::FileTooLarge);
        // Files of the kernel, which tell no size.
        assert_eq!(
            bounded(Path::new("/proc/self/maps"), 1).unwrap_err().kind(),
            ErrorKind::FileTooLarge
        );
        assert!(read(Path::new("/proc/meminfo")).unwrap().len() > 100);
    }
}
