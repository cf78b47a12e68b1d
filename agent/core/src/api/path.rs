//! Spellings of a path.

/// The path without empty, `.` and `..` segments; a slash at the end stays (Go's `http.cleanPath`).
#[must_use]
pub fn cleaned(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            _ => segments.push(segment),
        }
    }
    let mut clean = format!("/{}", segments.join("/"));
    if path.ends_with('/') && clean != "/" {
        clean.push('/');
    }
    clean
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_spelling_for_a_path() {
        for (path, clean) in [
            ("", "/"),
            ("/", "/"),
            ("//a/./b/", "/a/b/"),
            ("/a/../../b", "/b"),
            ("a/..", "/"),
        ] {
            assert_eq!(cleaned(path), clean);
        }
    }

    proptest! {
        #[test]
        fn it_stays_as_it_is_and_never_goes_up(path in "[a./]{0,20}") {
            let clean = cleaned(&path);
            prop_assert_eq!(cleaned(&clean), clean.clone());
            prop_assert!(clean.starts_with('/') && !clean.split('/').any(|segment| segment == ".."));
        }
    }
}
