//! A live observation: sources, recording, analysis, and when to stop.
