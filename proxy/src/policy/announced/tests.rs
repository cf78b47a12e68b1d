#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail this way")]

use gantry_announce::MAX_LINE_BYTES;
use gantry_policy_core::{Event, Pod, Policy};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::*;

/// The program's part that takes announcements, where every pod of namespace `a` is denied everything.
struct Daemon {
    announced: Announced,
    state: State,
}

impl Daemon {
    fn start(dir: &Path) -> Self {
        let mut announced = Announced::open(dir).unwrap();
        let mut state = State::default();
        let deny = Policy {
            ingress: Some(vec![]),
            ..Policy::default()
        };
        state.apply(Event::Policy(Key::new("a", "deny"), Some(deny)));
        announced.start(&mut state, &CancellationToken::new());
        Self { announced, state }
    }

    fn watch_tells(&mut self, name: &str, uid: &str) {
        let pod = Pod {
            uid: uid.into(),
            local: true,
            ..Pod::default()
        };
        self.state.apply(Event::Pod(Key::new("a", name), Some(pod)));
    }

    async fn turn(&mut self) {
        let requests = self.announced.next().await.unwrap();
        self.announced.take(requests, &mut self.state);
        self.announced.answer(Standing::Enforced, &self.state);
    }

    /// Announced without the socket.
    fn tell(&mut self, attached: Attached) -> oneshot::Receiver<Answer> {
        let (reply, answer) = oneshot::channel();
        let announcement = Announcement::Attached(attached);
        let request = Request { announcement, reply };
        self.announced.take(Requests(vec![request]), &mut self.state);
        answer
    }

    fn restricted(&self) -> usize {
        let own = self.state.table().sets.get(&gantry_policy_core::SetName::Own);
        own.map_or(0, BTreeSet::len)
    }
}

fn attached(interface: &str, namespace: &str, name: &str, uid: &str) -> Attached {
    Attached {
        interface: interface.into(),
        namespace: namespace.into(),
        name: name.into(),
        uid: Some(uid.into()),
        addresses: ["10.0.0.1".parse().unwrap()].into(),
    }
}

async fn say(dir: &TempDir, line: &[u8]) -> UnixStream {
    let mut stream = UnixStream::connect(dir.path().join(SOCKET)).await.unwrap();
    stream.write_all(line).await.unwrap();
    stream
}

async fn answer(mut stream: UnixStream) -> Answer {
    let mut line = Vec::new();
    stream.read_to_end(&mut line).await.unwrap();
    Answer::parse(&line).unwrap()
}

#[tokio::test]
async fn an_interface_is_answered_when_its_pod_is_restricted_and_forgotten_with_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(dir.path());
    daemon.watch_tells("p", "1");
    let line = Announcement::Attached(attached("c:eth0", "a", "p", "1")).line();
    let stream = say(&dir, &line).await;
    daemon.turn().await;
    assert_eq!(answer(stream).await, Answer::Enforced);
    assert_eq!(daemon.restricted(), 1);
    let gone = Announcement::Detached {
        interface: "c:eth0".into(),
    };
    // Whoever tells does not wait.
    drop(say(&dir, &gone.line()).await);
    daemon.turn().await;
    assert_eq!(daemon.restricted(), 0);
    assert_eq!(daemon.announced.files.read(), []);
}

#[tokio::test]
async fn an_interface_is_forgotten_when_its_address_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(dir.path());
    daemon.watch_tells("p", "1");
    daemon.tell(attached("c:eth0", "a", "p", "1"));
    for (address, restricted) in [("10.0.0.2", 1), ("10.0.0.1", 0)] {
        let freed = Announcement::Freed {
            addresses: [address.parse().unwrap()].into(),
        };
        drop(say(&dir, &freed.line()).await);
        daemon.turn().await;
        assert_eq!(daemon.restricted(), restricted, "{address}");
    }
    assert_eq!(daemon.announced.files.read(), []);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_not_known_is_waited_for_and_refused_where_policies_may_restrict_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(dir.path());
    let mut unknown = daemon.tell(attached("c:eth0", "a", "p", "1"));
    let mut free = daemon.tell(Attached {
        addresses: ["10.0.0.2".parse().unwrap()].into(),
        ..attached("d:eth0", "b", "p", "2")
    });
    daemon.watch_tells("p", "0");
    daemon.announced.answer(Standing::Enforced, &daemon.state);
    assert!(unknown.try_recv().is_err() && free.try_recv().is_err());
    assert!(daemon.announced.due().is_some());
    tokio::time::advance(PATIENCE).await;
    daemon.announced.answer(Standing::Enforced, &daemon.state);
    assert!(matches!(unknown.try_recv(), Ok(Answer::Refused(why)) if why.contains("pod a/p")));
    assert_eq!(
        free.try_recv(),
        Ok(Answer::Enforced),
        "its namespace has no policies"
    );
    assert_eq!(daemon.announced.due(), None);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_let_through_before_the_lists_are_complete_and_the_tables_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(dir.path());
    daemon.watch_tells("p", "1");
    for standing in [Standing::Unlisted, Standing::Unwritten] {
        let mut waits = daemon.tell(attached("c:eth0", "a", "p", "1"));
        daemon.announced.answer(standing, &daemon.state);
        assert!(waits.try_recv().is_err());
        tokio::time::advance(PATIENCE).await;
        daemon.announced.answer(standing, &daemon.state);
        assert!(matches!(waits.try_recv(), Ok(Answer::Refused(_))), "{standing:?}");
    }
    let mut other = daemon.tell(attached("c:eth0", "b", "unknown", "1"));
    daemon.announced.answer(Standing::Unrestricted, &daemon.state);
    assert_eq!(other.try_recv(), Ok(Answer::Enforced));
}

#[tokio::test]
async fn a_program_that_starts_again_restricts_the_same_pods() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(dir.path());
    drop(daemon.tell(attached("c:eth0", "a", "p", "1")));
    drop(daemon);
    for (name, text) in [(".new", "half"), ("x:eth0", "{}"), ("other:eth0", "")] {
        std::fs::write(dir.path().join(FILES).join(name), text).unwrap();
    }
    let mut daemon = Daemon::start(dir.path());
    daemon.watch_tells("p", "1");
    assert_eq!(daemon.restricted(), 1);
    let left = std::fs::read_dir(dir.path().join(FILES)).unwrap().count();
    assert_eq!(left, 1, "what is no announcement is removed");
    forget(dir.path()).unwrap();
    assert!(!dir.path().exists());
    forget(dir.path()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_interface_whose_end_was_not_told_goes_with_its_address_or_long_after_its_pod() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(dir.path());
    drop(daemon.tell(attached("c:eth0", "a", "p", "1")));
    drop(daemon.tell(attached("d:eth0", "a", "q", "2")));
    assert_eq!(
        daemon.announced.files.read(),
        [attached("d:eth0", "a", "q", "2")],
        "one address is one pod's"
    );
    daemon.watch_tells("q", "2");
    tokio::time::advance(LOST_AFTER * 2).await;
    daemon.announced.forget_lost(&mut daemon.state);
    assert_eq!(daemon.announced.files.read().len(), 1, "its pod lives");
    daemon.state.apply(Event::Pod(Key::new("a", "q"), None));
    tokio::time::advance(LOST_AFTER / 2).await;
    daemon.announced.forget_lost(&mut daemon.state);
    assert_eq!(daemon.announced.files.read().len(), 1);
    tokio::time::advance(LOST_AFTER).await;
    daemon.announced.forget_lost(&mut daemon.state);
    assert_eq!(daemon.announced.files.read(), []);
}

#[tokio::test]
async fn what_is_no_announcement_is_refused_and_who_says_nothing_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let _daemon = Daemon::start(dir.path());
    for line in [
        &b"\n"[..],
        b"{}\n",
        b"{\"event\":\"detached\",\"interface\":\"../x\"}\n",
        &vec![b'x'; MAX_LINE_BYTES + 1],
    ] {
        let stream = say(&dir, line).await;
        assert!(matches!(answer(stream).await, Answer::Refused(_)), "{line:?}");
    }
    let mut silent = say(&dir, b"{").await;
    let mut nothing = Vec::new();
    silent.read_to_end(&mut nothing).await.unwrap();
    assert_eq!(nothing, b"");
}
