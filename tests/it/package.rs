//! What is installed beside the program: the program takes its own sample of settings, every line of it.

use std::fs;
use std::path::Path;
use std::process::Command;

/// A folder of its own, removed at the end.
struct Folder(std::path::PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn every_line_of_the_sample_of_settings_is_taken() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/config.toml");
    let sample = fs::read_to_string(sample).expect("packaging/config.toml");
    let is_key =
        |line: &str| line.starts_with('#') && !line.starts_with("# ") && line.contains(" = ");
    let keys: Vec<&str> = sample.lines().filter(|line| is_key(line)).collect();
    assert!(keys.len() >= 7, "{keys:?}");
    let folder = Folder(std::env::temp_dir().join(format!("aiops-package-{}", std::process::id())));
    fs::create_dir_all(&folder.0).expect("a folder");
    let config = folder.0.join("config.toml");
    let monitor = |text: String| {
        fs::write(&config, text).expect("written");
        Command::new(env!("CARGO_BIN_EXE_aiops"))
            .args([
                "--lang",
                "en",
                "monitor",
                "memory",
                "--no-bpf",
                "--duration",
                "200ms",
            ])
            // A port that is free, whatever else runs here.
            .args(["--metrics", "127.0.0.1:0", "--config"])
            .arg(&config)
            .arg("--store")
            .arg(folder.0.join("store"))
            .output()
            .expect("it starts")
    };
    let text: Vec<&str> = keys
        .iter()
        .map(|line| line.trim_start_matches('#'))
        .collect();
    let done = monitor(text.join("\n"));
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    let done = monitor("intervall = \"5s\"\n".to_owned());
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains("intervall"), "{said}");
}
