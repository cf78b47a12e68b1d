//! The real kubectl with the administrator's rights, as users run it: to its end, or beside the test.
//!
//! It is started from the test's own thread, so it is in the network of the machines, too.

mod terminal;

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::wait::poll_ok;
use super::{Machine, Output, Test, poll, run_dir};

pub use terminal::Terminal;

/// A kubectl that runs beside the test; it ends with this value.
#[derive(Debug)]
pub struct Kubectl {
    arguments: String,
    child: Child,
    input: Option<ChildStdin>,
    out: Reader,
    err: Reader,
}

/// What comes out of a pipe, so far.
#[derive(Debug)]
struct Reader {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::<Mutex<Vec<u8>>>::default();
        let into = Arc::clone(&bytes);
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(length @ 1..) = pipe.read(&mut buffer) {
                let mut bytes = into.lock().unwrap_or_else(PoisonError::into_inner);
                bytes.extend_from_slice(&buffer[..length]);
            }
        });
        Self {
            bytes,
            thread: Some(thread),
        }
    }

    fn so_far(&self) -> Vec<u8> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All of it: the process has ended.
    fn all(&mut self) -> Vec<u8> {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.so_far()
    }
}

impl Kubectl {
    /// What it has said so far.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.out.so_far()).into_owned()
    }

    /// What it has complained about so far.
    pub fn complained(&self) -> String {
        String::from_utf8_lossy(&self.err.so_far()).into_owned()
    }

    /// Writes to its standard input.
    #[track_caller]
    pub fn write(&mut self, bytes: &[u8]) {
        let input = self.input.as_mut().expect("its standard input is open");
        let written = input.write_all(bytes).and_then(|()| input.flush());
        written.unwrap_or_else(|error| panic!("cannot write to {}: {error}", self.arguments));
    }

    /// Closes its standard input.
    pub fn close_input(&mut self) {
        self.input = None;
    }

    /// Waits until what it said satisfies the test.
    #[track_caller]
    pub fn wait_said(&self, what: &str, deadline: Duration, holds: impl Fn(&str) -> bool) -> String {
        poll_ok(deadline, &format!("{} says {what}", self.arguments), || {
            let said = self.said();
            if holds(&said) {
                return Ok(said);
            }
            Err(format!("said {said:?}, complained {:?}", self.complained()))
        })
    }

    fn status(&mut self) -> Option<ExitStatus> {
        self.child
            .try_wait()
            .unwrap_or_else(|error| panic!("cannot wait for {}: {error}", self.arguments))
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.status().is_none()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(mut self, deadline: Duration) -> Output {
        let what = format!("{} ends", self.arguments);
        let status = poll(deadline, &what, || self.status());
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Output {
            code: status.code(),
            out: text(self.out.all()),
            err: text(self.err.all()),
        }
    }
}

impl Drop for Kubectl {
    fn drop(&mut self) {
        if self.runs() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Test {
    /// kubectl in the test's namespace, for who wants other pipes.
    pub fn kubectl_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(Machine::named("control-plane").path("/usr/bin/kubectl"));
        command
            .arg(format!("--namespace={}", self.namespace()))
            .args(arguments)
            .env("KUBECONFIG", run_dir().join("kubeconfig"))
            .env("KUBECACHEDIR", run_dir().join("kubectl"));
        command
    }

    /// Runs kubectl in the test's namespace, whatever comes of it.
    #[track_caller]
    pub fn try_kubectl(&self, arguments: &[&str]) -> Output {
        let mut command = self.kubectl_command(arguments);
        let output = command.stdin(Stdio::null()).output();
        let output = output.unwrap_or_else(|error| panic!("cannot run kubectl: {error}"));
        Output {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The standard output of a kubectl that succeeds, as it is.
    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.try_kubectl(arguments);
        assert!(output.code == Some(0), "kubectl {arguments:?}: {output:?}");
        output.out
    }

    /// What a kubectl that fails complains about.
    #[track_caller]
    pub fn kubectl_refused(&self, arguments: &[&str]) -> String {
        let output = self.try_kubectl(arguments);
        assert!(
            output.code != Some(0),
            "kubectl {arguments:?} does not fail: {output:?}"
        );
        output.err.trim_end().to_owned()
    }

    /// Starts kubectl beside the test, with pipes.
    #[track_caller]
    pub fn start_kubectl(&self, arguments: &[&str]) -> Kubectl {
        let mut command = self.kubectl_command(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start kubectl: {error}"));
        let (out, err) = (child.stdout.take(), child.stderr.take());
        Kubectl {
            arguments: format!("kubectl {arguments:?}"),
            input: child.stdin.take(),
            out: Reader::of(out.expect("a pipe")),
            err: Reader::of(err.expect("a pipe")),
            child,
        }
    }
}
