//! The termination message: the file that the container wrote, else, when its policy says so, the tail of its log.
//! Blocking reads of bounded size; call it where blocking is allowed.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use gantry_cri::v1;

use super::observe::keys;

/// A container's message file counts up to this many bytes, from its end.
const FILE_LIMIT: u64 = 4096;
/// At most this many lines and bytes come from the log.
const LOG_LINES: usize = 80;
const LOG_BYTES: usize = 2048;
/// Each log line carries a time, a stream and a tag (about 45 bytes); this much of the file's end surely holds
/// enough lines for [`LOG_BYTES`], whatever their length.
const LOG_WINDOW: u64 = 64 * 1024;

/// The message of an exited container, empty when it left none.
pub(super) fn read(status: &v1::ContainerStatus) -> String {
    let annotation = |key| status.annotations.get(key).map_or("", String::as_str);
    let fallback = annotation(keys::MESSAGE_POLICY) == "FallbackToLogsOnError"
        && status.exit_code != 0
        && status.reason != "ContainerCannotRun";
    let path = annotation(keys::MESSAGE_PATH);
    let mount = status
        .mounts
        .iter()
        .find(|m| !path.is_empty() && m.container_path == path);
    let own = match mount.map(|mount| {
        (
            &mount.host_path,
            read_tail(Path::new(&mount.host_path), FILE_LIMIT),
        )
    }) {
        None => String::new(),
        Some((_, Ok(bytes))) => String::from_utf8_lossy(&bytes).into_owned(),
        Some((_, Err(error))) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Some((path, Err(error))) => return format!("Error on reading termination log {path}: {error}"),
    };
    if own.is_empty() && fallback {
        log_tail(Path::new(&status.log_path))
    } else {
        own
    }
}

fn log_tail(path: &Path) -> String {
    match read_tail(path, LOG_WINDOW) {
        Ok(bytes) => last_lines(&bytes),
        Err(error) => format!("Error on reading termination message from logs: {error}"),
    }
}

fn read_tail(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(limit)))?;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The payload of the last lines of a log in CRI format, `<time> <stream> <P|F> <text>`. A partial line joins the
/// next one. A first line cut by the window does not parse and is left out.
fn last_lines(log: &[u8]) -> String {
    let mut text: Vec<u8> = Vec::new();
    let lines: Vec<&[u8]> = log.split_inclusive(|b| *b == b'\n').collect();
    for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
        let mut fields = line.splitn(4, |b| *b == b' ');
        let (Some(_time), Some(b"stdout" | b"stderr"), Some(tag), Some(payload)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let partial = tag.split(|b| *b == b':').any(|t| t == b"P");
        text.extend_from_slice(if partial {
            payload.strip_suffix(b"\n").unwrap_or(payload)
        } else {
            payload
        });
    }
    String::from_utf8_lossy(&text[text.len().saturating_sub(LOG_BYTES)..]).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_log_has_a_short_tail(log in proptest::collection::vec(any::<u8>(), 0..4000)) {
            // A byte that is no text becomes three.
            prop_assert!(last_lines(&log).len() <= 3 * LOG_BYTES);
        }
    }

    fn status(dir: &Path, policy: &str, exit_code: i32) -> v1::ContainerStatus {
        let annotations = [
            (keys::MESSAGE_PATH, "/dev/termination-log"),
            (keys::MESSAGE_POLICY, policy),
        ];
        v1::ContainerStatus {
            exit_code,
            annotations: annotations.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            mounts: vec![v1::Mount {
                container_path: "/dev/termination-log".to_owned(),
                host_path: dir.join("message").display().to_string(),
                ..v1::Mount::default()
            }],
            log_path: dir.join("0.log").display().to_string(),
            ..v1::ContainerStatus::default()
        }
    }

    #[test]
    fn a_non_empty_file_wins_and_only_its_last_bytes_count() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("message"), format!("{}end", "x".repeat(5000))).unwrap();
        std::fs::write(dir.path().join("0.log"), "2026-01-01T00:00:00Z stdout F log\n").unwrap();
        let message = read(&status(dir.path(), "FallbackToLogsOnError", 1));
        assert_eq!(message.len(), 4096);
        assert!(message.ends_with("xend"));
    }

    #[test]
    fn the_log_is_used_on_error_only_and_only_when_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("message"), "").unwrap();
        let log = "2026-01-01T00:00:00Z stdout P par\n2026-01-01T00:00:00Z stdout F tial\n2026-01-01T00:00:01Z stderr F no\n";
        std::fs::write(dir.path().join("0.log"), log).unwrap();
        assert_eq!(
            read(&status(dir.path(), "FallbackToLogsOnError", 1)),
            "partial\nno\n"
        );
        assert_eq!(read(&status(dir.path(), "FallbackToLogsOnError", 0)), "");
        assert_eq!(read(&status(dir.path(), "File", 1)), "");
    }

    #[test]
    fn a_long_log_is_cut_to_80_lines_and_2048_bytes() {
        let many: String = (0..200)
            .map(|i| format!("2026-01-01T00:00:00Z stdout F {i}\n"))
            .collect();
        assert_eq!(last_lines(many.as_bytes()).lines().count(), 80);
        assert!(last_lines(many.as_bytes()).ends_with("198\n199\n"));
        let wide: String = (0..50)
            .map(|_| format!("2026-01-01T00:00:00Z stdout F {}\n", "y".repeat(100)))
            .collect();
        assert_eq!(last_lines(wide.as_bytes()).len(), LOG_BYTES);
        assert_eq!(last_lines(b"cut off\n"), "");
    }

    #[test]
    fn a_missing_file_is_no_message() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(&status(dir.path(), "File", 1)), "");
        assert!(read(&status(dir.path(), "FallbackToLogsOnError", 1)).starts_with("Error on reading"));
    }
}
