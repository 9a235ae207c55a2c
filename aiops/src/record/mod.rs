//! Recordings: items in a file, and back.
