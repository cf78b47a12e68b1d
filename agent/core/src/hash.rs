//! The hash that tells whether a running container is still the one that the spec describes.
//!
//! Exactly the reference's (`pkg/kubelet/container/helpers.go` HashContainer), so that a node may change from the
//! kubelet to this agent and back without restarting a container: FNV-1a, 32 bits, over Go's debug print of the
//! JSON bytes of `{"image":…,"name":…}`, that is `([]uint8)[123 34 …]`.

use std::fmt::Write as _;

/// The value of annotation `io.kubernetes.container.hash`: lower-case hex without leading zeros.
#[must_use]
pub fn container_hash(name: &str, image: &str) -> String {
    let json = format!("{{\"image\":{},\"name\":{}}}", go_json(image), go_json(name));
    let mut text = String::from("([]uint8)[");
    for (i, byte) in json.bytes().enumerate() {
        let separator = if i == 0 { "" } else { " " };
        // Writing to a String cannot fail.
        let _ = write!(text, "{separator}{byte}");
    }
    text.push(']');
    format!("{:x}", fnv1a_32(text.as_bytes()))
}

/// FNV-1a, 32 bits.
#[must_use]
pub fn fnv1a_32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

/// A JSON string as Go's encoding/json writes it: also escapes `<`, `>`, `&`, U+2028 and U+2029.
fn go_json(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            _ => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values printed by the reference's own function.
    #[test]
    fn hashes_are_the_references() {
        for (name, image, wanted) in [
            ("test_container", "foo/image:v1", "8e45cbd0"),
            ("foo", "bar", "11a6d6d6"),
            ("a", "b", "646fef1b"),
            ("nginx", "registry.k8s.io/nginx:1.2<&>\u{2028}é", "5eeea486"),
            ("c0", "docker.io/library/busybox:1.36", "4e791bfa"),
            ("coredns", "registry.k8s.io/coredns/coredns:v1.14.2", "faf8d9fa"),
        ] {
            assert_eq!(container_hash(name, image), wanted, "{name} {image}");
        }
    }
}
