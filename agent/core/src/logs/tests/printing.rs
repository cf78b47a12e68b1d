//! The printer: tables, and a plain model that sees the whole file at once.

use jiff::Timestamp;
use proptest::prelude::*;

use super::super::line::{Header, Stamp, Stream};
use super::super::print::{BLOCK, LONG};
use super::super::{Printer, Show, Streams, Unsupported};

/// Feeds `file` in pieces of the lengths `cuts` gives in turn.
fn print_cut(show: &Show, file: &[u8], cuts: &[usize]) -> Result<Vec<u8>, Unsupported> {
    let mut printer = Printer::new(show);
    let (mut out, mut pending, mut at) = (Vec::new(), Vec::new(), 0);
    for cut in cuts.iter().cycle() {
        let end = (at + cut).min(file.len());
        pending.extend_from_slice(&file[at..end]);
        at = end;
        let used = printer.feed(&pending, &mut out)?;
        assert!(
            used > 0 || pending.len() < BLOCK || printer.is_done(),
            "a block moves on"
        );
        pending.drain(..used);
        if at == file.len() {
            break;
        }
    }
    printer.finish(&pending, &mut out)?;
    Ok(out)
}

fn print(show: &Show, file: &str) -> String {
    String::from_utf8(print_cut(show, file.as_bytes(), &[file.len().max(1)]).unwrap()).unwrap()
}

/// The same by the reference's rules, one line after the other.
fn model(show: &Show, file: &[u8]) -> Vec<u8> {
    let (mut out, mut new_line, mut lines) = (Vec::new(), true, 0);
    for line in file.split_inclusive(|byte| *byte == b'\n') {
        if show.lines == Some(lines) {
            break;
        }
        let Some(header) = Header::parse(line.strip_suffix(b"\n").unwrap_or(line)) else {
            continue;
        };
        let mut text = &line[header.length..];
        if header.partial {
            text = text.strip_suffix(b"\n").unwrap_or(text);
        }
        let wanted = match header.stream {
            Stream::Stdout => show.streams.stdout,
            Stream::Stderr => show.streams.stderr,
        };
        let late = show
            .since
            .is_none_or(|since| header.stamp.instant().unwrap() >= since);
        if wanted && late {
            if show.timestamps && new_line {
                header.stamp.write(&mut out);
            }
            out.extend_from_slice(text);
            if let Some(limit) = show.limit_bytes.and_then(|limit| usize::try_from(limit).ok())
                && out.len() >= limit
            {
                out.truncate(limit);
                break;
            }
        }
        lines += 1;
        new_line = text.last().is_none_or(|byte| *byte == b'\n');
    }
    out
}

fn show() -> impl Strategy<Value = Show> {
    let since = proptest::option::of(0_i64..6).prop_map(|s| s.map(|s| Timestamp::from_second(s).unwrap()));
    let streams = (any::<bool>(), any::<bool>()).prop_map(|(stdout, stderr)| Streams { stdout, stderr });
    let limits = (proptest::option::of(1_u64..300), proptest::option::of(0_u64..20));
    (since, any::<bool>(), streams, limits).prop_map(|(since, timestamps, streams, (limit_bytes, lines))| {
        Show {
            since,
            timestamps,
            streams,
            limit_bytes,
            lines,
        }
    })
}

/// Lines of a log, some of them broken, the last perhaps without an end.
fn log() -> impl Strategy<Value = Vec<u8>> {
    let stamp = (0_u8..6, "(\\.[0-9]{1,10})?", "Z|\\+00:00|-01:30")
        .prop_map(|(s, fraction, zone)| format!("1970-01-01T00:00:0{s}{fraction}{zone}"));
    let text = prop_oneof![
        8 => proptest::collection::vec(any::<u8>().prop_map(|b| if b == b'\n' { b' ' } else { b }), 0..30),
        1 => (LONG - 50..BLOCK + 50).prop_map(|length| vec![b'x'; length]),
    ];
    let good = (stamp, "stdout|stderr", "P|F|F:x|P:x|", text).prop_map(|(stamp, stream, tag, text)| {
        let mut line = format!("{stamp} {stream} {tag} ").into_bytes();
        line.extend(text);
        line
    });
    let line = prop_oneof![
        9 => good.clone(),
        1 => "[0-9TZ: -]{0,40}( stdout)?( F)?".prop_map(String::into_bytes),
        1 => (LONG - 50..LONG + 50).prop_map(|length| vec![b'y'; length]),
    ];
    (good, proptest::collection::vec(line, 0..12), any::<bool>()).prop_map(|(first, lines, ended)| {
        let mut file = first;
        for line in lines {
            file.push(b'\n');
            file.extend(line);
        }
        if ended {
            file.push(b'\n');
        }
        file
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_cut_shows_what_the_reference_shows(show in show(), file in log(), cuts in proptest::collection::vec(1_usize..5000, 1..6)) {
        let expected = model(&show, &file);
        prop_assert!(print_cut(&show, &file, &cuts).unwrap() == expected);
        prop_assert!(print_cut(&show, &file, &[BLOCK]).unwrap() == expected);
        prop_assert!(print_cut(&show, &file, &[file.len()]).unwrap() == expected);
    }

    #[test]
    fn any_bytes_in_any_cut_do_no_harm(show in show(), file in proptest::collection::vec(any::<u8>(), 0..400), cuts in proptest::collection::vec(1_usize..50, 1..4)) {
        let whole = print_cut(&show, &file, &[file.len().max(1)]);
        prop_assert_eq!(print_cut(&show, &file, &cuts), whole);
    }

    #[test]
    fn any_text_is_a_time_or_none(text in proptest::collection::vec(any::<u8>(), 0..40), time in "[0-9]{4}-[0-2][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{0,11})?(Z|[+-][0-2][0-9]:[0-6][0-9])?") {
        prop_assert!(Stamp::parse(&text).is_none_or(|stamp| stamp.instant().is_some()));
        if let Some(stamp) = Stamp::parse(time.as_bytes()) {
            let mut out = Vec::new();
            stamp.write(&mut out);
            let again = Stamp::parse(&out[..out.len() - 1]).map(|again| again.instant());
            // A fraction longer than nanoseconds is cut.
            if time.find(['Z', '+']).unwrap_or(time.len()) <= 29 {
                prop_assert_eq!(again, Some(stamp.instant()));
            }
        }
    }
}

const LOG: &str = "\
2026-01-01T00:00:00Z stdout F one
2026-01-01T00:00:01.5Z stderr P tw
2026-01-01T00:00:01.6Z stderr F o
2026-01-01T02:00:02.123456789+02:00 stdout F three
";

#[test]
fn headers_go_and_partial_lines_join() {
    assert_eq!(print(&Show::default(), LOG), "one\ntwo\nthree\n");
}

#[test]
fn times_have_nine_digits_and_stand_before_whole_lines() {
    let show = Show {
        timestamps: true,
        ..Show::default()
    };
    let expected = "2026-01-01T00:00:00.000000000Z one\n2026-01-01T00:00:01.500000000Z two\n\
                    2026-01-01T02:00:02.123456789+02:00 three\n";
    assert_eq!(print(&show, LOG), expected);
}

#[test]
fn since_includes_its_own_instant_and_the_limit_cuts_to_the_byte() {
    let show = Show {
        since: Some("2026-01-01T00:00:01.6Z".parse().unwrap()),
        limit_bytes: Some(6),
        ..Show::default()
    };
    assert_eq!(print(&show, LOG), "o\nthre");
}

#[test]
fn the_days_of_the_calendar_only() {
    let valid = |date: &str| Stamp::parse(format!("{date}T00:00:00Z").as_bytes()).is_some();
    for date in ["2024-02-29", "2000-02-29", "2026-12-31", "0000-01-01"] {
        assert!(valid(date), "{date}");
    }
    for date in [
        "2026-02-29",
        "1900-02-29",
        "2026-13-01",
        "2026-04-31",
        "2026-01-00",
    ] {
        assert!(!valid(date), "{date}");
    }
}

#[test]
fn dockers_format_is_read() {
    let log = "{\"log\":\"par\",\"stream\":\"stdout\",\"time\":\"2026-01-01T00:00:00Z\"}\n\
               {\"log\":\"tial\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-01T00:00:01Z\"}\n\
               garbage\n\
               {\"log\":\"two\\n\",\"stream\":\"stderr\",\"time\":\"2026-01-01T00:00:02Z\"}\n";
    assert_eq!(print(&Show::default(), log), "partial\ntwo\n");
    let show = Show {
        timestamps: true,
        ..Show::default()
    };
    assert_eq!(
        print(&show, log),
        "2026-01-01T00:00:00.000000000Z partial\n2026-01-01T00:00:02.000000000Z two\n"
    );
}

#[test]
fn a_file_in_no_known_format_is_refused_as_the_reference_does() {
    let error = print_cut(&Show::default(), b"\0\"hello\n", &[100]).unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"failed to get parse function: unsupported log format: "\x00\"hello\n""#
    );
    assert!(print_cut(&Show::default(), &vec![b'x'; BLOCK], &[BLOCK]).is_err());
}
