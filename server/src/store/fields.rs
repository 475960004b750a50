//! Fields of a record, taken from the front of its bytes.

/// The next `N` bytes, if there are as many.
pub(crate) fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

/// The next `bytes` bytes, if there are as many and they are text.
pub(crate) fn text<'a>(rest: &mut &'a [u8], bytes: usize) -> Option<&'a str> {
    let (head, tail) = rest.split_at_checked(bytes)?;
    *rest = tail;
    std::str::from_utf8(head).ok()
}
