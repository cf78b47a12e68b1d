//! `/logs/`: the files below `/var/log`, and lists of its directories, as Go's file server shows them.
//!
//! A symbolic link that leads out of `/var/log` leads nowhere: whoever may write there, such as a pod that mounts it,
//! must not read the machine's other files through the agent. (The reference follows it.) Only regular files are
//! opened.

use std::{
    fs,
    io::{self, Seek as _, SeekFrom},
    os::{fd::OwnedFd, unix::fs::FileExt as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use futures::stream;
use gantry_agent_core::api::{
    Query,
    nodelog::{self, NodeLog, Refused},
    path::cleaned,
    range::{self, Part},
};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{
    Response, StatusCode,
    body::Frame,
    header::{
        ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderValue, LAST_MODIFIED, LOCATION,
    },
};
use jiff::{Timestamp, tz::TimeZone};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use tokio::io::AsyncReadExt as _;

use super::{Answer, Api, Body, Refusal, answer, journal};

/// The directory that is served.
pub(super) const ROOT: &str = "/var/log";
/// Read at once.
const CHUNK: usize = 64 * 1024;
/// What Go's `net/url` leaves as it is in a path.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'/')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// What lies at a path.
enum Found {
    File {
        file: fs::File,
        metadata: fs::Metadata,
    },
    Directory {
        page: String,
        modified: Option<Timestamp>,
    },
}

/// `/logs/{path}`; with the query and the `Range` header (empty: none).
pub(super) async fn logs(
    api: &Api,
    path: &str,
    (query, range): (Option<&str>, &str),
) -> Result<Answer, Refusal> {
    let mut path = format!("/{path}");
    if api.config.kubelet.enable_system_log_query {
        let query = Query::parse(query.unwrap_or_default());
        match nodelog::parse(&query, path == "/") {
            Ok(NodeLog::Path) => {}
            Ok(NodeLog::File(file)) => path = format!("/{}", file.trim_start_matches('/')),
            Ok(NodeLog::Services { services, options }) => return Ok(journal::show(services, options)),
            Err(Refused::Unreadable(why)) => return Err(Refusal::line(StatusCode::BAD_REQUEST, &why)),
            Err(Refused::Unacceptable(why)) => {
                return Err(Refusal::line(StatusCode::NOT_ACCEPTABLE, &why));
            }
        }
    }
    let (shown, opened) = (
        path.clone(),
        tokio::task::spawn_blocking(move || open(Path::new(ROOT), &path)),
    );
    let found = opened
        .await
        .map_err(|error| Refusal::internal(error.to_string()))?;
    show(&shown, found.map_err(|error| refused(&error))?, range).await
}

fn refused(error: &io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            Refusal::line(StatusCode::NOT_FOUND, "404 page not found")
        }
        io::ErrorKind::PermissionDenied => Refusal::line(StatusCode::FORBIDDEN, "403 Forbidden"),
        _ => Refusal::line(StatusCode::INTERNAL_SERVER_ERROR, "500 Internal Server Error"),
    }
}

async fn show(path: &str, found: Found, range: &str) -> Result<Answer, Refusal> {
    match found {
        Found::Directory { page, modified } => {
            if !path.ends_with('/') {
                let name = path.rsplit('/').next().unwrap_or_default();
                return moved(&format!("{}/", utf8_percent_encode(name, PLAIN)));
            }
            let mut page = answer::with_type("text/html; charset=utf-8", page);
            last_modified(&mut page, modified);
            Ok(page)
        }
        Found::File { .. } if path.ends_with('/') => {
            let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            moved(&format!("../{}", utf8_percent_encode(name, PLAIN)))
        }
        Found::File { file, metadata } => send(file, &metadata, range).await,
    }
}

fn moved(to: &str) -> Result<Answer, Refusal> {
    let mut answer = Response::new(answer::full(Bytes::new()));
    *answer.status_mut() = StatusCode::MOVED_PERMANENTLY;
    let to = HeaderValue::try_from(to).map_err(|error| Refusal::bad_request(error.to_string()))?;
    answer.headers_mut().insert(LOCATION, to);
    Ok(answer)
}

/// Opens what lies at `path` below `root`. Blocks.
fn open(root: &Path, path: &str) -> io::Result<Found> {
    let root = root.canonicalize()?;
    let target = root.join(cleaned(path).trim_matches('/')).canonicalize()?;
    let outside = || io::Error::from(io::ErrorKind::NotFound);
    let below = target.strip_prefix(&root).map_err(|_| outside())?;
    let file = fs::File::from(beneath(&root, below)?);
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        let modified = metadata.modified().ok().and_then(|time| time.try_into().ok());
        return Ok(Found::Directory {
            page: list(&target)?,
            modified,
        });
    }
    if metadata.is_file() {
        Ok(Found::File { file, metadata })
    } else {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

/// Opens a regular file below `root`; anything else is not found. Blocks.
pub(super) fn open_file(root: &Path, path: &str) -> io::Result<fs::File> {
    match open(root, path)? {
        Found::File { file, metadata: _ } => Ok(file),
        Found::Directory { .. } => Err(io::ErrorKind::NotFound.into()),
    }
}

/// Opens a path without links. What was a directory when the links were resolved may be a link by now: then it fails.
fn beneath(root: &Path, below: &Path) -> io::Result<OwnedFd> {
    // Opening a pipe must not wait for its other end.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let dir = rustix::fs::open(root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let below = if below.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        below.to_owned()
    };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(dir, below, flags, Mode::empty(), resolve)?)
}

/// The page of a directory.
fn list(dir: &Path) -> io::Result<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let mut name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            name.push('/');
        }
        names.push(name);
    }
    names.sort_unstable();
    let lines = names.iter().map(|name| {
        let link = utf8_percent_encode(name, PLAIN).to_string();
        // A colon in the first segment would look like a scheme.
        let dot = if link.contains(':') { "./" } else { "" };
        format!("<a href=\"{dot}{link}\">{}</a>\n", escaped(name))
    });
    Ok(format!(
        "<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n{}</pre>\n",
        lines.collect::<String>()
    ))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&#34;")
        .replace('\'', "&#39;")
}

/// As much of a file as there is now, or a part of it. It is read as fast as the client takes it.
async fn send(mut file: fs::File, metadata: &fs::Metadata, range: &str) -> Result<Answer, Refusal> {
    let size = metadata.len();
    let bytes = match range::part(range, size) {
        Part::Whole => 0..size,
        Part::Bytes(bytes) => bytes,
        Part::Outside => {
            let refusal = Refusal::line(
                StatusCode::RANGE_NOT_SATISFIABLE,
                "invalid range: failed to overlap",
            );
            return Err(refusal);
        }
    };
    let kind = {
        let mut start = [0; 512];
        let read = file.read_at(&mut start, 0).map_err(|error| refused(&error))?;
        kind(&start[..read])
    };
    file.seek(SeekFrom::Start(bytes.start))
        .map_err(|error| refused(&error))?;
    let length = bytes.end - bytes.start;
    let file = tokio::fs::File::from_std(file).take(length);
    let chunks = stream::try_unfold(file, |mut file| async move {
        let mut chunk = vec![0; CHUNK];
        let read = file.read(&mut chunk).await?;
        chunk.truncate(read);
        Ok::<_, io::Error>((read > 0).then(|| (Frame::data(Bytes::from(chunk)), file)))
    });
    let body: Body = StreamBody::new(chunks).boxed_unsync();
    let mut answer = Response::new(body);
    if length < size {
        *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
        let part = format!("bytes {}-{}/{size}", bytes.start, bytes.end - 1);
        if let Ok(part) = HeaderValue::try_from(part) {
            answer.headers_mut().insert(CONTENT_RANGE, part);
        }
    }
    let headers = answer.headers_mut();
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    let modified = metadata.modified().ok().and_then(|time| time.try_into().ok());
    last_modified(&mut answer, modified);
    Ok(answer)
}

/// Text, unless there is a byte that no text has in the part that Go looks at.
fn kind(start: &[u8]) -> &'static str {
    let binary = |byte: &u8| matches!(byte, 0..=8 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f);
    match start {
        [0x1f, 0x8b, 0x08, ..] => "application/x-gzip",
        _ if start.iter().take(512).any(binary) => "application/octet-stream",
        _ => "text/plain; charset=utf-8",
    }
}

fn last_modified(answer: &mut Answer, time: Option<Timestamp>) {
    let text = time.map(|time| {
        let time = time.to_zoned(TimeZone::UTC);
        time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
    });
    if let Some(Ok(value)) = text.map(HeaderValue::try_from) {
        answer.headers_mut().insert(LAST_MODIFIED, value);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use proptest::prelude::*;

    use super::*;
    use crate::server::answer::testing::content;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("secret"), "secret").unwrap();
        let root = dir.path().join("log");
        fs::create_dir_all(root.join("pods/a")).unwrap();
        fs::write(root.join("b&c.log"), "hello\n").unwrap();
        fs::write(root.join("pods/a/0.log"), vec![b'x'; 3 * CHUNK + 7]).unwrap();
        symlink(dir.path().join("secret"), root.join("out")).unwrap();
        symlink("../secret", root.join("out2")).unwrap();
        symlink(root.join("pods/a/0.log"), root.join("in")).unwrap();
        dir
    }

    fn look(dir: &tempfile::TempDir, path: &str) -> io::Result<Found> {
        open(&dir.path().join("log"), path)
    }

    async fn text(dir: &tempfile::TempDir, path: &str) -> Result<String, u16> {
        let found = look(dir, path).map_err(|error| refused(&error).status().as_u16())?;
        Ok(content(show(path, found, "").await.unwrap()).await)
    }

    #[tokio::test]
    async fn files_and_directories_are_shown() {
        let dir = tree();
        assert_eq!(text(&dir, "/b&c.log").await.as_deref(), Ok("hello\n"));
        assert_eq!(text(&dir, "/pods/a/0.log").await.unwrap().len(), 3 * CHUNK + 7);
        assert_eq!(
            text(&dir, "/in").await.unwrap().len(),
            3 * CHUNK + 7,
            "a link inside"
        );
        let page = text(&dir, "/").await.unwrap();
        assert!(
            page.contains("<a href=\"b&c.log\">b&amp;c.log</a>\n<a href=\"in\">in</a>\n"),
            "{page}"
        );
        assert!(page.contains("<a href=\"pods/\">pods/</a>\n</pre>\n"), "{page}");
    }

    #[tokio::test]
    async fn a_part_of_a_file_can_be_asked_for() {
        let dir = tree();
        let part = show("/b&c.log", look(&dir, "/b&c.log").unwrap(), "bytes=1-2")
            .await
            .unwrap();
        assert_eq!(
            (part.status().as_u16(), &part.headers()[CONTENT_RANGE]),
            (206, &"bytes 1-2/6".parse().unwrap())
        );
        assert_eq!(content(part).await, "el");
        let outside = show("/b&c.log", look(&dir, "/b&c.log").unwrap(), "bytes=9-")
            .await
            .unwrap_err();
        assert_eq!(outside.status().as_u16(), 416);
    }

    #[tokio::test]
    async fn nothing_outside_is_shown() {
        let dir = tree();
        for path in [
            "/out",
            "/out2",
            "/../secret",
            "/pods/../../secret",
            "/x",
            "/b&c.log/x",
        ] {
            assert_eq!(text(&dir, path).await, Err(404), "{path}");
        }
    }

    #[tokio::test]
    async fn directories_end_in_a_slash_and_files_do_not() {
        let dir = tree();
        let moved = show("/pods", look(&dir, "/pods").unwrap(), "").await.unwrap();
        assert_eq!(
            (moved.status().as_u16(), &moved.headers()[LOCATION]),
            (301, &"pods/".parse().unwrap())
        );
        let moved = show("/in/", look(&dir, "/in/").unwrap(), "").await.unwrap();
        assert_eq!(moved.headers()[LOCATION], "../in");
    }

    #[test]
    fn a_pipe_is_not_opened() {
        let dir = tree();
        let made = std::process::Command::new("mkfifo")
            .arg(dir.path().join("log/pipe"))
            .status();
        assert!(made.unwrap().success());
        let error = look(&dir, "/pipe").err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }

    proptest! {
        #[test]
        fn no_path_leads_out(path in "(/(\\.\\.|out|out2|in|pods|secret|a|))+") {
            let dir = tree();
            let secret = fs::metadata(dir.path().join("secret")).unwrap();
            if let Ok(Found::File { metadata, .. }) = look(&dir, &path) {
                prop_assert_ne!(metadata.ino(), secret.ino());
            }
        }
    }
}
