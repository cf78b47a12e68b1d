//! A session of exec, attach or port-forward, straight with a node or through the API server: a WebSocket that speaks
//! `v4.channel.k8s.io` or `v5.channel.k8s.io` (RFC 6455; each message begins with the number of its channel).

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use super::{Cluster, Connection, NodeApi, secs};

/// A session takes no longer to begin.
const BEGIN: Duration = secs(30);
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
/// Frames of a client are masked; zeros change nothing.
const MASK: [u8; 4] = [0; 4];

/// The session. Dropped, its connection is closed without a word.
pub struct Session {
    cluster: &'static Cluster,
    read: ReadHalf<Connection>,
    write: WriteHalf<Connection>,
    /// The head of the answer.
    pub head: String,
}

impl Session {
    /// Begins one at `path` with its query; the error is the whole answer of a node that refuses.
    pub fn begin(api: &NodeApi, path: &str) -> Result<Self, String> {
        Self::begin_with(api, path, "v4.channel.k8s.io")
    }

    /// The same with another protocol.
    pub fn begin_with(api: &NodeApi, path: &str, protocol: &str) -> Result<Self, String> {
        let cluster = Cluster::enter();
        let (mut read, mut write) = tokio::io::split(api.raw()?);
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\
             Sec-WebSocket-Protocol: {protocol}\r\n{}\r\n",
            api.address(),
            api.token()
                .map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"))
        );
        let handshake = async {
            write.write_all(request.as_bytes()).await?;
            write.flush().await?;
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(read.read_u8().await?);
            }
            let mut head = String::from_utf8_lossy(&head).into_owned();
            if !head.starts_with("HTTP/1.1 101 ") {
                let mut body = Vec::new();
                let length = content_length(&head);
                (&mut read).take(length).read_to_end(&mut body).await?;
                head.push_str(&String::from_utf8_lossy(&body));
            }
            Ok(head)
        };
        let head = match cluster.within(BEGIN, handshake) {
            Some(head) => head.map_err(|error: std::io::Error| error.to_string())?,
            None => return Err(format!("no answer in {BEGIN:?}")),
        };
        if !head.starts_with("HTTP/1.1 101 ") {
            return Err(head);
        }
        Ok(Self {
            cluster,
            read,
            write,
            head,
        })
    }

    /// Sends bytes on a channel.
    pub fn send(&mut self, channel: u8, bytes: &[u8]) -> Result<(), String> {
        let length = bytes.len() + 1;
        let mut frame = vec![BINARY];
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(short @ ..126), _) => frame.push(0x80 | short),
            (_, Ok(middle)) => {
                frame.push(0x80 | 126);
                frame.extend(middle.to_be_bytes());
            }
            _ => {
                frame.push(0x80 | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(MASK);
        frame.push(channel);
        frame.extend(bytes);
        let sending = async {
            self.write.write_all(&frame).await?;
            self.write.flush().await
        };
        let sent = self.cluster.within(BEGIN, sending);
        sent.unwrap_or_else(|| Err(std::io::ErrorKind::TimedOut.into()))
            .map_err(|error| error.to_string())
    }

    /// The next message with something in it; `None` when the session has ended.
    pub fn next(&mut self, deadline: Duration) -> Result<Option<(u8, Vec<u8>)>, String> {
        let read = &mut self.read;
        let message = async {
            loop {
                let (kind, content) = frame(read).await?;
                match content.split_first() {
                    _ if kind == CLOSE => return Ok::<_, std::io::Error>(None),
                    Some((channel, bytes)) if kind == BINARY && !bytes.is_empty() => {
                        return Ok(Some((*channel, bytes.to_vec())));
                    }
                    _ => {}
                }
            }
        };
        match self.cluster.within(deadline, message) {
            Some(Ok(message)) => Ok(message),
            Some(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
            Some(Err(error)) => Err(error.to_string()),
            None => Err(format!("nothing came in {deadline:?}")),
        }
    }

    /// All that comes on a channel until the end.
    pub fn rest(&mut self, channel: u8, deadline: Duration) -> Result<Vec<u8>, String> {
        let mut all = Vec::new();
        while let Some((from, bytes)) = self.next(deadline)? {
            if from == channel {
                all.extend(bytes);
            }
        }
        Ok(all)
    }
}

/// Of an answer's head; without one the connection ends after the answer.
fn content_length(head: &str) -> u64 {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    length
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or(u64::MAX)
}

async fn frame(read: &mut ReadHalf<Connection>) -> std::io::Result<(u8, Vec<u8>)> {
    let kind = read.read_u8().await?;
    let length = match read.read_u8().await? & 0x7f {
        126 => u64::from(read.read_u16().await?),
        127 => read.read_u64().await?,
        short => u64::from(short),
    };
    let mut content = Vec::new();
    read.take(length).read_to_end(&mut content).await?;
    Ok((kind, content))
}
