//! Prometheus' text format: `NAME{LABELS} VALUE [TIMESTAMP]`.
//!
//! A scrape of a full node is some ten thousand lines that differ in a number each. So the labels of a cgroup are
//! written once, when it is first seen ([`Labels`]), and a line is a few copies.

use jiff::Timestamp;

/// What a family's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// A number. Times are written in seconds, exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// As it is.
    Number(u64),
    /// As it is.
    Signed(i64),
    /// Seconds from nanoseconds.
    Nanos(u64),
    /// Seconds from microseconds.
    Micros(u64),
    /// Seconds from milliseconds.
    Millis(u64),
}

/// The six labels that every line of cadvisor's has, written out, with the places where others go between them:
/// labels are in alphabetical order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    text: String,
    after: [usize; 4],
}

/// Where an additional label belongs in [`Labels`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// `cpu`, `device`, `failure_type`.
    AfterContainer = 0,
    /// `interface`, `major`, `minor`.
    AfterImage = 1,
    /// `operation`.
    AfterNamespace = 2,
    /// `scope`, `state`, `ulimit`.
    AfterPod = 3,
}

/// A time as it ends a line; one for all lines of a cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    text: [u8; Self::ROOM],
    from: usize,
}

impl Stamp {
    /// A blank, the largest number, a line break.
    const ROOM: usize = DIGITS + 2;

    /// Written out, in milliseconds.
    #[must_use]
    pub fn new(at: Timestamp) -> Self {
        let mut digits = [0; DIGITS];
        let digits = decimal(u64::try_from(at.as_millisecond()).unwrap_or(0), &mut digits);
        let from = DIGITS - digits.len();
        let mut text = [b' '; Self::ROOM];
        text[from + 1..=DIGITS].copy_from_slice(digits);
        text[DIGITS + 1] = b'\n';
        Self { text, from }
    }

    fn text(&self) -> &[u8] {
        &self.text[self.from..]
    }
}

/// Whose line it is; what does not apply is empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Identity<'a> {
    /// The container's name in the pod; empty for a sandbox and for a pod's own cgroup.
    pub container: &'a str,
    /// The cgroup's path.
    pub id: &'a str,
    /// What runs.
    pub image: &'a str,
    /// The runtime's identifier.
    pub name: &'a str,
    /// The pod's namespace.
    pub namespace: &'a str,
    /// The pod's name.
    pub pod: &'a str,
}

impl Labels {
    /// Writes them out.
    #[must_use]
    pub fn new(of: &Identity<'_>) -> Self {
        let mut text = String::new();
        label(&mut text, "container", of.container);
        let container = text.len();
        label(&mut text, "id", of.id);
        label(&mut text, "image", of.image);
        let image = text.len();
        label(&mut text, "name", of.name);
        label(&mut text, "namespace", of.namespace);
        let namespace = text.len();
        label(&mut text, "pod", of.pod);
        let after = [container, image, namespace, text.len()];
        Self { text, after }
    }
}

/// `,NAME="VALUE"` with what the format wants escaped.
pub fn label(text: &mut String, name: &str, value: &str) {
    if !text.is_empty() {
        text.push(',');
    }
    text.push_str(name);
    text.push_str("=\"");
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
    text.push('"');
}

/// The answer while it is written.
#[derive(Debug, Default)]
pub struct Text {
    buffer: Vec<u8>,
}

impl Text {
    /// With room for so many bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            buffer: Vec::with_capacity(bytes),
        }
    }

    /// What was written.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.buffer
    }

    pub(crate) fn len(&self) -> usize {
        self.buffer.len()
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.buffer.truncate(len);
    }

    /// The two lines before a family's values.
    pub fn family(&mut self, name: &str, help: &str, kind: Kind) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        for part in ["# HELP ", name, " ", help, "\n# TYPE ", name, " ", kind, "\n"] {
            self.buffer.extend_from_slice(part.as_bytes());
        }
    }

    /// One line whose labels are `labels` with `extra` between them, in order.
    pub fn line(&mut self, name: &str, labels: &Labels, extra: &[(Place, &str)]) -> Tail<'_> {
        self.buffer.extend_from_slice(name.as_bytes());
        self.buffer.push(b'{');
        let mut done = 0;
        for (place, text) in extra {
            let upto = labels.after[*place as usize];
            self.buffer.extend_from_slice(&labels.text.as_bytes()[done..upto]);
            self.buffer.push(b',');
            self.buffer.extend_from_slice(text.as_bytes());
            done = upto;
        }
        self.buffer.extend_from_slice(&labels.text.as_bytes()[done..]);
        self.buffer.push(b'}');
        Tail(self)
    }

    /// One line with labels that are written already; none when empty.
    pub fn plain(&mut self, name: &str, labels: &str) -> Tail<'_> {
        self.buffer.extend_from_slice(name.as_bytes());
        if !labels.is_empty() {
            for part in ["{", labels, "}"] {
                self.buffer.extend_from_slice(part.as_bytes());
            }
        }
        Tail(self)
    }
}

/// A line that lacks its value.
#[must_use]
pub struct Tail<'a>(&'a mut Text);

impl Tail<'_> {
    /// Its value, without a time.
    pub fn value(mut self, value: Value) {
        self.put(value);
        self.0.buffer.push(b'\n');
    }

    /// Its value, and when that was so.
    pub fn value_at(mut self, value: Value, at: &Stamp) {
        self.put(value);
        self.0.buffer.extend_from_slice(at.text());
    }

    fn put(&mut self, value: Value) {
        let buffer = &mut self.0.buffer;
        buffer.push(b' ');
        match value {
            Value::Number(number) => integer(buffer, number),
            Value::Signed(number) => {
                if number < 0 {
                    buffer.push(b'-');
                }
                integer(buffer, number.unsigned_abs());
            }
            Value::Nanos(nanos) => seconds(buffer, nanos, 1_000_000_000),
            Value::Micros(micros) => seconds(buffer, micros, 1_000_000),
            Value::Millis(millis) => seconds(buffer, millis, 1_000),
        }
    }
}

/// `amount` parts of which a second has `scale`, a power of ten.
fn seconds(buffer: &mut Vec<u8>, amount: u64, scale: u64) {
    integer(buffer, amount / scale);
    let rest = amount % scale;
    if rest == 0 {
        return;
    }
    // The fraction with its leading zeros is the number with a one before it.
    let mut fraction = [0; DIGITS];
    let digits = decimal(rest + scale, &mut fraction);
    let zeros = digits.iter().rev().take_while(|digit| **digit == b'0').count();
    buffer.push(b'.');
    buffer.extend_from_slice(&digits[1..digits.len() - zeros]);
}

fn integer(buffer: &mut Vec<u8>, value: u64) {
    buffer.extend_from_slice(decimal(value, &mut [0; DIGITS]));
}

/// The digits of the largest number.
const DIGITS: usize = 20;

fn decimal(mut value: u64, room: &mut [u8; DIGITS]) -> &[u8] {
    let mut at = DIGITS;
    loop {
        at -= 1;
        // A digit is below ten.
        room[at] = b"0123456789"[usize::try_from(value % 10).unwrap_or(0)];
        value /= 10;
        if value == 0 {
            return &room[at..];
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(value: Value) -> String {
        let mut text = Text::default();
        text.plain("n", "").value(value);
        let text = String::from_utf8(text.finish()).unwrap();
        text.trim_start_matches("n ").trim_end().to_owned()
    }

    #[test]
    fn labels_are_in_alphabetical_order_and_escaped() {
        let labels = Labels::new(&Identity {
            container: "c",
            id: "/a\\b",
            image: "i\"\n",
            name: "n",
            namespace: "s",
            pod: "p",
        });
        let mut text = Text::default();
        text.family("f", "What it is.", Kind::Counter);
        text.line("f", &labels, &[(Place::AfterContainer, "cpu=\"total\"")])
            .value_at(
                Value::Nanos(1_500_000_000),
                &Stamp::new(Timestamp::from_millisecond(1234).unwrap()),
            );
        text.line(
            "f",
            &labels,
            &[(Place::AfterContainer, "t=\"x\""), (Place::AfterPod, "z=\"y\"")],
        )
        .value(Value::Signed(-1));
        assert_eq!(
            String::from_utf8(text.finish()).unwrap(),
            "# HELP f What it is.\n# TYPE f counter\n\
             f{container=\"c\",cpu=\"total\",id=\"/a\\\\b\",image=\"i\\\"\\n\",name=\"n\",namespace=\"s\",pod=\"p\"} 1.5 1234\n\
             f{container=\"c\",t=\"x\",id=\"/a\\\\b\",image=\"i\\\"\\n\",name=\"n\",namespace=\"s\",pod=\"p\",z=\"y\"} -1\n"
        );
    }

    #[test]
    fn seconds_are_exact() {
        for (value, text) in [
            (Value::Nanos(0), "0"),
            (Value::Nanos(1), "0.000000001"),
            (Value::Nanos(12_050_000_000), "12.05"),
            (Value::Micros(1_000_001), "1.000001"),
            (Value::Millis(u64::MAX), "18446744073709551.615"),
            (Value::Number(u64::MAX), "18446744073709551615"),
            (Value::Signed(i64::MIN), "-9223372036854775808"),
        ] {
            assert_eq!(written(value), text);
        }
    }

    proptest! {
        #[test]
        fn numbers_read_back(number in any::<u64>(), signed in any::<i64>()) {
            prop_assert_eq!(written(Value::Number(number)), number.to_string());
            prop_assert_eq!(written(Value::Signed(signed)), signed.to_string());
            let (whole, rest) = (number / 1_000_000_000, number % 1_000_000_000);
            let exact = format!("{whole}.{rest:09}");
            let exact = exact.trim_end_matches('0').trim_end_matches('.');
            prop_assert_eq!(written(Value::Nanos(number)), exact);
        }
    }
}
