//! The drawing of a verdict as a file.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;

use crate::diag;
use crate::render::Lang;
use crate::render::plot;
use crate::report::Report;
use crate::report::leak::LeakData;
use crate::store::Unpublished;

/// Forms of drawings, told by how the file's name ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Svg,
    Html,
}

fn form(path: &Path) -> Option<Form> {
    let end = path.extension()?.to_str()?.to_ascii_lowercase();
    match end.as_str() {
        "svg" => Some(Form::Svg),
        "html" | "htm" => Some(Form::Html),
        _ => None,
    }
}

/// Where a drawing goes.
#[derive(Clone, Debug)]
pub(super) struct Plot {
    path: PathBuf,
    form: Form,
    force: bool,
}

impl Plot {
    /// For this file, which must end in .svg or .html.
    ///
    /// # Errors
    /// Says what is wrong with the name.
    pub(super) fn new(path: &Path, force: bool) -> Result<Self, String> {
        let form = form(path).ok_or_else(|| {
            let name = path.display();
            format!("--plot {name}: the name must end in .svg or .html")
        })?;
        Ok(Self {
            path: path.to_owned(),
            form,
            force,
        })
    }

    /// Refuses a file that is there, before anything is sampled.
    ///
    /// # Errors
    /// It is there, or no file.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let Ok(there) = fs::symlink_metadata(&self.path) else {
            return Ok(());
        };
        let name = self.path.display();
        if !there.is_file() {
            let error = anyhow::anyhow!("{name}: not a file");
            return Err(diag::hint(error, "--plot names a file: F.svg or F.html"));
        }
        if self.force {
            Ok(())
        } else {
            Err(self.taken())
        }
    }

    fn taken(&self) -> anyhow::Error {
        let error = anyhow::anyhow!("{}: already exists", self.path.display());
        diag::hint(error, "choose another file, or replace it with --force")
    }

    /// Draws: the file is whole, or not there.
    ///
    /// # Errors
    /// It is there, or cannot be written.
    pub(super) fn write(&self, report: &Report<LeakData>, lang: Lang) -> anyhow::Result<()> {
        self.check()?;
        let text = match self.form {
            Form::Svg => plot::svg(report, lang),
            Form::Html => plot::html(report, lang)?,
        };
        let name = Unpublished::new(self.path.clone());
        let written = || -> io::Result<()> {
            let _ = fs::remove_file(name.tmp());
            let mut file = File::options()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(name.tmp())?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        let failed = || format!("{}: cannot write", self.path.display());
        let room = "--plot names a file in a folder with room that you can write to";
        written()
            .with_context(failed)
            .map_err(|error| diag::hint(error, room))?;
        if !self.force {
            // A link never replaces what came there meanwhile; some file systems have none.
            match fs::hard_link(name.tmp(), &self.path) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    return Err(self.taken());
                }
                Err(_) => {}
            }
        }
        name.publish().map(drop).with_context(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_tells_the_form() {
        let of = |name: &str| form(Path::new(name));
        assert_eq!(of("a.svg"), Some(Form::Svg));
        assert_eq!(of("b/c.HTML"), Some(Form::Html));
        for name in ["a.png", "svg", ".svg", "a.svg/", ""] {
            let told = Plot::new(Path::new(name), false);
            assert_eq!(told.is_ok(), name == "a.svg/", "{name}");
        }
    }
}
