use proptest::prelude::*;

use super::*;

const SHELL: Streams = Streams {
    stdin: true,
    stdout: true,
    stderr: false,
    tty: true,
};

#[test]
fn streams_are_numbered_in_the_order_in_which_they_are_opened() {
    let lanes = Lanes::new(SHELL);
    let opened: Vec<_> = lanes.opened().collect();
    assert_eq!(opened, [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "resize")]);
    assert_eq!((lanes.greeting(), lanes.stdin()), (1, Some(3)));
    let errors = Streams {
        stdin: false,
        stdout: false,
        stderr: true,
        tty: false,
    };
    assert_eq!(Lanes::new(errors).greeting(), 2);
    let quiet = Streams {
        stderr: false,
        ..errors
    };
    assert_eq!(Lanes::new(quiet).greeting(), 3);
}

#[test]
fn messages_go_to_the_streams_that_are_written() {
    let lanes = Lanes::new(SHELL);
    let data = |stream, bytes| Said::Data { stream, bytes };
    assert_eq!(lanes.said(b"\x00ls\n"), data(3, b"ls\n"));
    assert_eq!(lanes.said(b"\x00"), data(3, b""));
    assert_eq!(lanes.said(b"\x04{}"), data(7, b"{}"));
    assert_eq!(lanes.said(&[255, 0]), Said::End { stream: 3 });
    for nothing in [&b""[..], b"\x01x", b"\x05x", &[255, 1]] {
        assert_eq!(lanes.said(nothing), Said::Nothing, "{nothing:?}");
    }
    for nonsense in [&[255][..], &[255, 5], &[255, 0, 0]] {
        assert_eq!(lanes.said(nonsense), Said::Nonsense, "{nonsense:?}");
    }
    let only_output = Streams {
        stdin: false,
        tty: false,
        ..SHELL
    };
    assert_eq!(Lanes::new(only_output).said(b"\x00x"), Said::Nothing);
}

/// The status after this on the error stream and the ends of these streams.
fn ended(said: &str, ends: &[u32]) -> Value {
    let mut output = Output::new(Lanes::new(SHELL));
    if !said.is_empty() {
        let (stream, bytes) = (1, said.as_bytes());
        assert_eq!(output.take(Frame::Data { stream, bytes }), Heard::Nothing);
    }
    for stream in ends {
        output.take(Frame::End { stream: *stream });
    }
    assert_eq!(output.is_over(), ends.contains(&1) && ends.contains(&5));
    output.status()
}

#[test]
fn the_status_is_the_one_that_the_reference_makes_of_the_runtimes() {
    let ends = [5, 1];
    assert_eq!(ended(r#"{"status":"Success"}"#, &ends), success());
    assert_eq!(ended("", &ends), success());
    let exit = ended(
        r#"{"status":"Failure","reason":"NonZeroExitCode","message":"command terminated with non-zero exit code: x",
            "details":{"causes":[{"reason":"ExitCode","message":"37"}]}}"#,
        &ends,
    );
    assert_eq!(exit["details"]["causes"][0]["message"], "37");
    assert_eq!(exit["reason"], "NonZeroExitCode");
    for (said, why) in [
        (r#"{"status":"Failure","message":"gone"}"#, "gone"),
        (r#"{"status":"?"}"#, "error stream protocol error: unknown error"),
        (
            r#"{"status":"Failure","reason":"NonZeroExitCode"}"#,
            "error stream protocol error: details must be set",
        ),
        (
            r#"{"status":"Failure","reason":"NonZeroExitCode","details":{}}"#,
            "error stream protocol error: no ExitCode cause given",
        ),
        (
            r#"{"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"256"}]}}"#,
            "error stream protocol error: invalid exit code value \"256\"",
        ),
    ] {
        assert_eq!(ended(said, &ends), failure(why), "{said}");
    }
    let rubbish = ended("no JSON", &ends);
    assert!(
        rubbish["message"]
            .to_string()
            .contains("error stream protocol error"),
        "{rubbish}"
    );
}

#[test]
fn a_runtime_that_broke_off_did_not_succeed() {
    let broken = ended("", &[5]);
    assert_eq!(broken["reason"], "InternalError");
}

#[test]
fn output_keeps_its_channel_and_a_ping_is_answered() {
    let mut output = Output::new(Lanes::new(SHELL));
    let (stream, bytes) = (5, &b"x"[..]);
    let message = Heard::Message { channel: 1, bytes };
    assert_eq!(output.take(Frame::Data { stream, bytes }), message);
    assert_eq!(output.take(Frame::Data { stream: 3, bytes }), Heard::Nothing);
    assert_eq!(output.take(Frame::Ping { id: 2 }), Heard::Ping(2));
}

proptest! {
    #[test]
    fn any_message_and_any_status_is_one(message: Vec<u8>, said: Vec<u8>) {
        let lanes = Lanes::new(SHELL);
        if let Said::Data { bytes, .. } = lanes.said(&message) {
            prop_assert_eq!(bytes, &message[1..]);
        }
        let mut output = Output::new(lanes);
        output.take(Frame::Data { stream: 1, bytes: &said });
        prop_assert!(output.status()["status"].is_string());
    }
}
