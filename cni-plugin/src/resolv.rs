//! `ipam.resolvConf`: name resolution for the result, read from a file in the format of resolv.conf(5) as the stock
//! `host-local` plugin reads it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::result::Dns;

/// More than any resolver configuration.
const MAX_BYTES: u64 = 1024 * 1024;

/// Why the file is not usable.
#[derive(Debug, thiserror::Error)]
#[error("ipam.resolvConf: cannot read {path}; name a file that is there, or write the servers in \"dns\"")]
pub(crate) struct ResolvError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Reads such a file.
pub(crate) fn read(path: &Path) -> Result<Dns, ResolvError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(parse(&String::from_utf8_lossy(&bytes))),
        Err(source) => Err(ResolvError {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Lines of a keyword and its values. The last domain counts, everything else adds up.
fn parse(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text
        .lines()
        .filter(|line| !line.trim_start().starts_with(['#', ';']))
    {
        let mut words = line.split_whitespace().map(str::to_owned);
        let Some(keyword) = words.next() else { continue };
        match keyword.as_str() {
            "nameserver" => dns.nameservers.extend(words.next()),
            "domain" => dns.domain = words.next().unwrap_or(dns.domain),
            "search" => dns.search.extend(words),
            "options" => dns.options.extend(words),
            _ => {}
        }
    }
    dns
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keywords_add_up_and_comments_are_nothing() {
        let text = "# made by hand\n ; so was this\nnameserver 10.0.0.1 ignored\nnameserver\n\nnameserver fd00::1\n\
            domain old\ndomain example.org\nsearch a b\nsearch c\noptions ndots:5 rotate\nsortlist 10.0.0.0\n";
        let dns = parse(text);
        assert_eq!(dns.nameservers, ["10.0.0.1", "fd00::1"]);
        assert_eq!(dns.domain, "example.org");
        assert_eq!(dns.search, ["a", "b", "c"]);
        assert_eq!(dns.options, ["ndots:5", "rotate"]);
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_written_is_read(text in any::<String>(), search in proptest::collection::vec("[a-z.]{1,9}", 0..5)) {
            let _ = parse(&text);
            prop_assert_eq!(parse(&format!("search {}", search.join(" "))).search, search);
        }
    }
}
