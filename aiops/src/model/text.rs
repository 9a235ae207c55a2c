//! Text that the kernel or another program wrote: any bytes, kept as they are.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;

/// Bytes that are usually UTF-8: a comm, a path, a command line argument, a log line.
///
/// Serialised as a string that gives the same bytes back: `\` is doubled and a byte that is not part
/// of valid UTF-8 is written `\xNN`. Control characters stay themselves here; what is shown to a
/// person goes through `render::escape`.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RawText(Vec<u8>);

impl RawText {
    /// Text of these bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// Text of a NUL-terminated field such as `comm`.
    #[must_use]
    pub fn from_c(bytes: &[u8]) -> Self {
        let end = bytes
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(bytes.len());
        Self(bytes[..end].to_vec())
    }

    /// The bytes as the kernel had them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// For people and for JSON: invalid UTF-8 as `\xNN`, everything else as it is.
    #[must_use]
    pub fn lossy(&self) -> Cow<'_, str> {
        if let Ok(text) = std::str::from_utf8(&self.0) {
            return Cow::Borrowed(text);
        }
        let mut out = String::with_capacity(self.0.len() + 8);
        for chunk in self.0.utf8_chunks() {
            out.push_str(chunk.valid());
            for byte in chunk.invalid() {
                out.push_str(&format!("\\x{byte:02x}"));
            }
        }
        Cow::Owned(out)
    }

    fn escaped(&self) -> Cow<'_, str> {
        if !self.0.contains(&b'\\') {
            return self.lossy();
        }
        let mut out = String::with_capacity(self.0.len() + 8);
        for chunk in self.0.utf8_chunks() {
            out.push_str(&chunk.valid().replace('\\', "\\\\"));
            for byte in chunk.invalid() {
                out.push_str(&format!("\\x{byte:02x}"));
            }
        }
        Cow::Owned(out)
    }

    fn unescaped(text: &str) -> Self {
        let mut out = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('\\') {
            out.extend_from_slice(&rest.as_bytes()[..at]);
            let tail = &rest[at + 1..];
            let byte = tail.strip_prefix('x').and_then(|hex| hex.get(..2));
            if let Some(byte) = byte.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
                out.push(byte);
                rest = &tail[3..];
            } else {
                out.push(b'\\');
                rest = tail.strip_prefix('\\').unwrap_or(tail);
            }
        }
        out.extend_from_slice(rest.as_bytes());
        Self(out)
    }
}

impl fmt::Debug for RawText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.lossy())
    }
}

impl From<&str> for RawText {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl From<String> for RawText {
    fn from(text: String) -> Self {
        Self(text.into_bytes())
    }
}

impl Serialize for RawText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.escaped())
    }
}

impl<'de> Deserialize<'de> for RawText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(Self::unescaped(&text))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_survive_a_round_trip(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let text = RawText::new(bytes);
            prop_assert_eq!(&RawText::unescaped(&text.escaped()), &text);
        }
    }

    #[test]
    fn backslashes_are_not_bytes() {
        for plain in [r"C:\x41", r"\\x41", r"a\", r"\x4", "é\\"] {
            let text = RawText::from(plain);
            assert_eq!(RawText::unescaped(&text.escaped()), text, "{plain}");
        }
        assert_eq!(RawText::new(*b"a\xffb").escaped(), r"a\xffb");
        assert_eq!(RawText::from_c(b"ab\0cd").as_bytes(), b"ab");
    }
}
