//! The grammar of [W3C Trace Context](https://www.w3.org/TR/trace-context-2/): which texts are a `traceparent` or a
//! `tracestate`, as tracing libraries write them beside the members of a message.

use std::collections::BTreeSet;

/// Most members of a `tracestate`.
const MAX_LIST_MEMBERS: usize = 32;

/// Longest key, and longest value, of a member of a `tracestate`.
const MAX_PART: usize = 256;

/// Whether a text is a [`traceparent`](https://www.w3.org/TR/trace-context-2/#traceparent-header-field-values). Those of
/// later versions may have more fields at their end.
#[must_use]
pub fn is_traceparent(text: &str) -> bool {
    let fields: Vec<_> = text.split('-').collect();
    let [version, trace_id, parent_id, flags, later @ ..] = &fields[..] else { return false };
    let is_version = is_hex(version, 2) && *version != "ff" && (later.is_empty() || *version != "00");
    is_version && is_id(trace_id, 32) && is_id(parent_id, 16) && is_hex(flags, 2)
}

/// Reads a `traceparent` that is to be passed on: that of a later version in [the form of
/// ours](https://www.w3.org/TR/trace-context-2/#versioning-of-traceparent), so that all have one length.
#[must_use]
pub fn traceparent(text: &str) -> Option<String> {
    let fields = text.get(2..55).filter(|_| is_traceparent(text))?;
    Some(format!("00{fields}"))
}

/// Whether a text is a [`tracestate`](https://www.w3.org/TR/trace-context-2/#tracestate-header-field-values). A member may
/// be empty, and [no key is there twice](https://www.w3.org/TR/trace-context-2/#combined-header-value).
#[must_use]
pub fn is_tracestate(text: &str) -> bool {
    let mut keys = BTreeSet::new();
    let is_list_member = |member: &str| match member.trim_matches([' ', '\t']).split_once('=') {
        Some((key, value)) => is_key(key) && is_value(value) && keys.insert(key.to_owned()),
        None => member.trim_matches([' ', '\t']).is_empty(),
    };
    text.split(',').count() <= MAX_LIST_MEMBERS && text.split(',').all(is_list_member)
}

fn is_key(text: &str) -> bool {
    let is_alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.len() <= MAX_PART
        && text.starts_with(is_alphanumeric)
        && text.chars().all(|c| is_alphanumeric(c) || "_-*/@".contains(c))
}

fn is_value(text: &str) -> bool {
    (1..=MAX_PART).contains(&text.len()) && text.chars().all(|c| matches!(c, ' '..='~') && c != '=')
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a text is a hexadecimal number that is not zero, which stands for no id.
fn is_id(text: &str, length: usize) -> bool {
    is_hex(text, length) && text.bytes().any(|byte| byte != b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_a_version_two_ids_and_flags() {
        for text in [
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000001-0000000000000001-00",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-the-future-will-be-like",
        ] {
            assert!(is_traceparent(text), "{text}");
        }
    }

    #[test]
    fn what_only_resembles_a_traceparent_is_none() {
        for text in [
            "",
            "42",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-extra",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-B7AD6B7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333-01",
            "00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            " 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0g",
        ] {
            assert!(!is_traceparent(text), "{text}");
        }
    }

    #[test]
    fn a_traceparent_is_passed_on_in_the_version_that_is_known() {
        let passed_on = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        for text in [passed_on, &passed_on.replacen("00", "cc", 1), &(passed_on.replacen("00", "01", 1) + "-more")] {
            assert_eq!(traceparent(text).as_deref(), Some(passed_on), "{text}");
        }
        for text in ["", "traceparent", &passed_on.to_uppercase(), &(passed_on.to_owned() + "-more")] {
            assert_eq!(traceparent(text), None, "{text}");
        }
    }

    #[test]
    fn a_tracestate_is_a_list_of_keys_and_values() {
        let longest = format!("{}={}", "k".repeat(256), "v".repeat(256));
        let most = (0..32).map(|n| format!("{n}=1")).collect::<Vec<_>>().join(",");
        for text in [
            "congo=t61rcWkgMzE",
            "rojo=00f067aa0ba902b7, congo=ucfJifl5GOE",
            "fw529a3039@dt=FfAR; ~ x\t,\t,a_-*/9=+",
            "0@=  leading spaces belong to the value",
            "",
            ",",
            " \t",
        ] {
            assert!(is_tracestate(text), "{text}");
        }
        assert!(is_tracestate(&longest) && is_tracestate(&most));
    }

    #[test]
    fn what_only_resembles_a_tracestate_is_none() {
        for text in [
            "42",
            "a",
            "@=1",
            "-=1",
            "a=1,b",
            "a=1,b=2,a=3",
            "a=1, a=1",
            "=1",
            "a=",
            "a= ",
            "A=1",
            "_a=1",
            "a b=1",
            "a=1=2",
            "a=é",
            "a=b\tc",
            "a=1;b=2",
            "a=1\n",
        ] {
            assert!(!is_tracestate(text), "{text}");
        }
        for text in [format!("{}=v", "k".repeat(257)), format!("k={}", "v".repeat(257)), vec![""; 33].join(",")] {
            assert!(!is_tracestate(&text), "{text}");
        }
    }
}
