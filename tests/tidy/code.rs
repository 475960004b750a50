//! Just enough of Rust's grammar to tell code from what is said about it.

/// `text` with comments and the contents of literals blanked out. Lines stay where they are.
pub(crate) fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let names_something = code.ends_with(|last: char| last.is_alphanumeric() || last == '_');
        let skipped = match next {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => comment_len(rest),
            'b' | 'c' | 'r' if !names_something => raw_string_len(rest),
            '"' => quoted_len(rest, '"'),
            '\'' => char_len(rest),
            _ => 0,
        };
        if skipped == 0 {
            code.push(next);
            rest = &rest[next.len_utf8()..];
        } else {
            code.push(' ');
            code.extend(rest[..skipped].matches('\n'));
            rest = &rest[skipped..];
        }
    }
    code
}

/// Block comments nest.
fn comment_len(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        let step = match &rest.as_bytes()[at..] {
            [b'/', b'*', ..] => 1,
            [b'*', b'/', ..] => -1,
            _ => 0,
        };
        depth += step;
        at += if step == 0 { 1 } else { 2 };
        if depth == 0 {
            break;
        }
    }
    at
}

fn raw_string_len(rest: &str) -> usize {
    let Some(prefix) = ["r", "br", "cr"].into_iter().find(|prefix| rest.starts_with(prefix)) else {
        return 0;
    };
    let hashes = rest[prefix.len()..].chars().take_while(|&c| c == '#').count();
    let start = prefix.len() + hashes;
    if !rest[start..].starts_with('"') {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    rest[start + 1..].find(&end).map_or(rest.len(), |at| start + 1 + at + end.len())
}

fn quoted_len(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == quote {
            return at + 1;
        }
    }
    rest.len()
}

/// 0 where the quote begins a lifetime.
fn char_len(rest: &str) -> usize {
    let mut chars = rest.chars().skip(1);
    match (chars.next(), chars.next()) {
        (Some('\\'), _) | (Some(_), Some('\'')) => quoted_len(rest, '\''),
        _ => 0,
    }
}

/// The identifiers of a line of code, with what stands before and after each.
pub(crate) fn words(line: &str) -> Vec<(&str, &str, &str)> {
    let mut words = Vec::new();
    let mut end = 0;
    let is_inside = |c: char| c.is_alphanumeric() || c == '_';
    while let Some(start) = line[end..].find(is_inside).map(|at| end + at) {
        end = line[start..].find(|c| !is_inside(c)).map_or(line.len(), |at| start + at);
        words.push((&line[..start], &line[start..end], &line[end..]));
    }
    words
}

#[test]
fn comments_and_literals_are_no_code() {
    let cases = [
        ("a // b\nc", "a  \nc"),
        ("a /* b /* c */\n */ d", "a  \n d"),
        (r#"f("b\"c") d"#, "f( ) d"),
        (r##"f(r#"b"c"#) d"##, "f( ) d"),
        (r#"f(br"\") d"#, "f( ) d"),
        (r#"f(b"c", b'c', 'c', '\'') d"#, "f(b , b ,  ,  ) d"),
        ("f<'a>(&'a str)", "f<'a>(&'a str)"),
        ("for r in bar", "for r in bar"),
        ("\"€\" '€' €", "    €"),
    ];
    for (text, code) in cases {
        assert_eq!(code_of(text), code, "{text}");
    }
    assert_eq!(words("a::b_1(2)").len(), 3);
}
