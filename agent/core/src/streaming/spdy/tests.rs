use proptest::prelude::*;

use super::*;

/// What a test looks at, of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Data(u32, Vec<u8>),
    End(u32),
    Ping(u32),
}

/// All frames of bytes that come in these pieces, data put together again.
fn read(bytes: &[u8], pieces: &[usize]) -> Result<Vec<Seen>, SpdyError> {
    let (mut decoder, mut seen) = (Decoder::default(), Vec::new());
    let (mut held, mut rest, mut pieces) = (Vec::new(), bytes, pieces.iter().cycle());
    loop {
        let (used, frame) = decoder.next(&held)?;
        match frame {
            Some(Frame::Data { stream, bytes }) => match seen.last_mut() {
                Some(Seen::Data(last, all)) if *last == stream => all.extend(bytes),
                _ => seen.push(Seen::Data(stream, bytes.to_vec())),
            },
            Some(Frame::End { stream }) => seen.push(Seen::End(stream)),
            Some(Frame::Ping { id }) => seen.push(Seen::Ping(id)),
            Some(Frame::Other) => {}
            None if rest.is_empty() => return Ok(seen),
            None => {
                let piece = (*pieces.next().unwrap_or(&1)).clamp(1, rest.len());
                held.extend(&rest[..piece]);
                rest = &rest[piece..];
            }
        }
        held.drain(..used);
    }
}

/// A frame as some server sends it.
fn said(stream: u32, text: &[u8], last: bool) -> Vec<u8> {
    [&data_head(stream, text.len(), last)[..], text].concat()
}

#[test]
fn a_session_is_read_in_whatever_pieces_it_comes() {
    let mut bytes = control(SYN_REPLY, &[0, 0, 0, 5, 1, 2, 3, 4, 5]);
    bytes.extend(control(4, &[0; 12]));
    bytes.extend(said(5, b"out", false));
    bytes.extend(control(PING, &2_u32.to_be_bytes()));
    bytes.extend(said(5, b"put", true));
    bytes.extend(said(7, b"", true));
    bytes.extend(said(7, b"", false));
    bytes.extend(control(RST_STREAM, &[0, 0, 0, 1, 0, 0, 0, 5]));
    let all = [
        Seen::Data(5, b"out".to_vec()),
        Seen::Ping(2),
        Seen::Data(5, b"put".to_vec()),
        Seen::End(5),
        Seen::End(7),
        Seen::End(1),
    ];
    for pieces in [&[1][..], &[3, 2, 7], &[1000]] {
        assert_eq!(read(&bytes, pieces).unwrap(), all, "{pieces:?}");
    }
}

#[test]
fn an_answer_may_be_an_end() {
    let mut bytes = control(SYN_REPLY, &[0, 0, 0, 3]);
    bytes[4] = FIN;
    assert_eq!(read(&bytes, &[1000]).unwrap(), [Seen::End(3)]);
}

#[test]
fn what_nobody_would_send_is_refused() {
    let mut other = control(PING, &[0; 4]);
    other[1] = 2;
    assert_eq!(read(&other, &[1000]), Err(SpdyError::Version(2)));
    assert_eq!(read(&control(PING, &[0; 3]), &[1]), Err(SpdyError::Short(PING)));
    let long = control(4, &vec![0; MAX_CONTROL + 1]);
    assert_eq!(read(&long, &[1000]), Err(SpdyError::Long(MAX_CONTROL + 1)));
}

#[test]
fn streams_are_opened_as_servers_read_it() {
    let mut encoder = Encoder::default();
    let first = encoder.open(1, &[("streamtype", "error")]);
    let length = first.len() - HEAD;
    assert_eq!(
        first[..8],
        [0x80, 3, 0, 1, 0, 0, 0, u8::try_from(length).unwrap()]
    );
    assert_eq!(first[8..20], [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0x78, 1]);
    assert_eq!(first[20..25], [0, 27, 0, 228, 255]);
    assert!(first.ends_with(b"\0\0\0\x05error\0\0\0\xff\xff"), "{first:?}");
    let second = encoder.open(3, &[("streamtype", "stdin")]);
    assert_eq!(second[18], 0, "zlib begins once");
    assert_eq!(pong(7), [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 7]);
}

proptest! {
    #[test]
    fn anything_is_read_or_refused(bytes: Vec<u8>, pieces in prop::collection::vec(1_usize..64, 1..8)) {
        let _ = read(&bytes, &pieces);
    }

    #[test]
    fn anything_after_a_control_bit_is_read_or_refused(
        kind in 0_u16..16,
        flags: u8,
        body: Vec<u8>,
        cut in 0_usize..64,
        pieces in prop::collection::vec(1_usize..64, 1..8),
    ) {
        let mut frame = control(kind, &body);
        frame[4] = flags;
        frame.truncate(frame.len() - cut.min(frame.len()));
        let _ = read(&frame, &pieces);
    }

    #[test]
    fn data_comes_out_as_it_went_in(
        texts in prop::collection::vec((1_u32..4, prop::collection::vec(any::<u8>(), 0..200), any::<bool>()), 0..20),
        pieces in prop::collection::vec(1_usize..64, 1..8),
    ) {
        let bytes: Vec<u8> = texts.iter().flat_map(|(stream, text, last)| said(*stream, text, *last)).collect();
        let mut expected: Vec<Seen> = Vec::new();
        for (stream, text, last) in texts {
            match expected.last_mut() {
                _ if text.is_empty() => {}
                Some(Seen::Data(before, all)) if *before == stream => all.extend(text),
                _ => expected.push(Seen::Data(stream, text)),
            }
            if last {
                expected.push(Seen::End(stream));
            }
        }
        prop_assert_eq!(read(&bytes, &pieces).unwrap(), expected);
    }
}
