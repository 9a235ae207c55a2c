//! Names of others in commands that somebody pastes into a shell.

use std::borrow::Cow;

/// A word for sh: as it is when nothing in it means anything to a shell, else in single quotes.
#[must_use]
pub fn quote(word: &str) -> Cow<'_, str> {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "/._-:@%+,=".contains(c);
    if !word.is_empty() && word.chars().all(harmless) {
        return Cow::Borrowed(word);
    }
    Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_stay_one_word() {
        assert_eq!(
            quote("/sys/fs/cgroup/a.slice/b@1:2"),
            "/sys/fs/cgroup/a.slice/b@1:2"
        );
        assert_eq!(quote("/a b"), "'/a b'");
        assert_eq!(quote("/$(reboot);'x"), r"'/$(reboot);'\''x'");
        assert_eq!(quote(""), "''");
    }
}
