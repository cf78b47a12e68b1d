//! Text in double quotes as Go's `%q` writes it: error texts of the API must be the reference's to the letter.

use std::fmt::Write as _;

/// `bytes` quoted; what is no UTF-8 becomes `\xNN`.
#[must_use]
pub fn quote(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 2);
    text.push('"');
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|c| push(&mut text, c));
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text.push('"');
    text
}

fn push(text: &mut String, c: char) {
    let _ = match c {
        '"' | '\\' => write!(text, "\\{c}"),
        '\u{7}' => write!(text, "\\a"),
        '\u{8}' => write!(text, "\\b"),
        '\u{c}' => write!(text, "\\f"),
        '\n' => write!(text, "\\n"),
        '\r' => write!(text, "\\r"),
        '\t' => write!(text, "\\t"),
        '\u{b}' => write!(text, "\\v"),
        '\0'..' ' | '\u{7f}' => write!(text, "\\x{:02x}", u32::from(c)),
        // Go and Rust agree on what can be printed but for a few code points that no name or log has.
        c if c == '\'' || c.escape_debug().len() == 1 => write!(text, "{c}"),
        c if u32::from(c) > 0xffff => write!(text, "\\U{:08x}", u32::from(c)),
        c => write!(text, "\\u{:04x}", u32::from(c)),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_as_go_does() {
        for (bytes, quoted) in [
            (&b"web-0"[..], r#""web-0""#),
            (b"a\"b\\c'd", r#""a\"b\\c'd""#),
            (b"\0\x01\t\n\x7f", r#""\x00\x01\t\n\x7f""#),
            (b"\xff\xc3\xa9", "\"\\xff\u{e9}\""),
            ("\u{200b}\u{e0001}".as_bytes(), r#""\u200b\U000e0001""#),
        ] {
            assert_eq!(quote(bytes), quoted);
        }
    }
}
