//! What a recording promises.
