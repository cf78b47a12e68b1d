//! `/logs/?query=service`: what journald has of services; files of services that log into files.
//!
//! One task for a request; it ends, and the journalctl that it started with it, when the client goes or after 30 s.

use std::{io, path::Path, process::Stdio, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{
    Response,
    body::Frame,
    header::{CONTENT_TYPE, HeaderValue},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::Command,
    sync::mpsc,
};

use super::{Answer, files};

/// All of an answer takes at most this long; the reference's.
const LIMIT: Duration = Duration::from_secs(30);
/// Pieces that wait for the client.
const QUEUE: usize = 4;
/// Read at once, bytes.
const PIECE: usize = 16 * 1024;

type Pieces = mpsc::Sender<Result<Frame<Bytes>, io::Error>>;

/// The client has gone.
struct Gone;

/// Shows the logs of services. `options` are arguments of journalctl.
pub(super) fn show(services: Vec<String>, options: Vec<String>) -> Answer {
    let (sender, mut receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let copied = tokio::time::timeout(LIMIT, copy(&services, &options, &sender));
        // Late or without a reader: what was sent is all there is.
        let _ = copied.await;
    });
    let pieces = futures::stream::poll_fn(move |context| receiver.poll_recv(context));
    let mut answer = Response::new(StreamBody::new(pieces).boxed_unsync());
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain;charset=UTF-8"));
    answer
}

async fn copy(services: &[String], options: &[String], to: &Pieces) -> Result<(), Gone> {
    let units = units().await;
    let journals = |service: &&String| units.contains(&format!("{service}.service"));
    let (native, other): (Vec<_>, Vec<_>) = services.iter().partition(journals);
    if !native.is_empty() {
        from_journal(&native, options, to).await?;
    }
    if !other.is_empty() && !options.is_empty() {
        let names = other
            .iter()
            .map(|name| name.as_str())
            .collect::<Vec<_>>()
            .join(" ");
        let text = format!(
            "\noptions present and query resolved to log files for [{names}]\ntry without specifying options\n"
        );
        return say(to, text).await;
    }
    for service in other {
        from_file(service, to).await?;
    }
    Ok(())
}

/// All units that journald has something of; empty without journald.
async fn units() -> String {
    let asked = Command::new("journalctl")
        .args(["--field", "_SYSTEMD_UNIT"])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await;
    asked.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}

async fn from_journal(services: &[&String], options: &[String], to: &Pieces) -> Result<(), Gone> {
    let started = Command::new("journalctl")
        .args(["--utc", "--no-pager", "--output=short-precise"])
        .args(services.iter().map(|service| format!("--unit={service}")))
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let Ok(mut child) = started else {
        return say(to, "\nerror: journal output not available\n".to_owned()).await;
    };
    let (output, errors) = (child.stdout.take(), child.stderr.take());
    let both = async {
        match (output, errors) {
            (Some(output), Some(errors)) => tokio::try_join!(pass(output, to), pass(errors, to)).map(|_| ()),
            _ => Ok(()),
        }
    };
    both.await?;
    // How it ended is in what it wrote.
    let _ = child.wait().await;
    Ok(())
}

/// `/var/log/x`, `/var/log/x.log` or `/var/log/x/x.log`, the first that is a file.
async fn from_file(service: &str, to: &Pieces) -> Result<(), Gone> {
    for name in [
        service.to_owned(),
        format!("{service}.log"),
        format!("{service}/{service}.log"),
    ] {
        let opened =
            tokio::task::spawn_blocking(move || files::open_file(Path::new(files::ROOT), &name)).await;
        match opened.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into())) {
            Ok(file) => {
                let size = file.metadata().map_or(0, |metadata| metadata.len());
                return pass(tokio::fs::File::from_std(file).take(size), to).await;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return say(to, format!("\nerror getting log for {service}: {error}\n")).await,
        }
    }
    say(to, format!("\nlog not found for {service}\n")).await
}

async fn pass(from: impl AsyncRead, to: &Pieces) -> Result<(), Gone> {
    let mut from = std::pin::pin!(from);
    loop {
        let mut piece = vec![0; PIECE];
        // What cannot be read is the end.
        match from.read(&mut piece).await {
            Ok(0) | Err(_) => return Ok(()),
            Ok(read) => piece.truncate(read),
        }
        let piece = Ok(Frame::data(Bytes::from(piece)));
        to.send(piece).await.map_err(|_| Gone)?;
    }
}

async fn say(to: &Pieces, text: String) -> Result<(), Gone> {
    to.send(Ok(Frame::data(Bytes::from(text))))
        .await
        .map_err(|_| Gone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::answer::testing::content;

    #[tokio::test]
    async fn a_service_that_nobody_knows_has_no_log() {
        let answer = show(vec!["no-such-service-here".to_owned()], Vec::new());
        assert_eq!(
            content(answer).await,
            "\nlog not found for no-such-service-here\n"
        );
        let answer = show(
            vec!["no-such-service-here".to_owned()],
            vec!["--lines=1".to_owned()],
        );
        assert!(content(answer).await.contains("try without specifying options"));
    }
}
