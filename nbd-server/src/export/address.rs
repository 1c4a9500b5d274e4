//! Addresses of exports, as clients take them.

use std::path::Path;

/// `nbd+unix:///NAME?socket=PATH`, with what may not stand in an address escaped.
pub fn unix_uri(socket: &Path, name: &str) -> String {
    let mut uri = format!("nbd+unix:///{name}?socket=");
    for &byte in socket.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => uri.push(byte as char),
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_escape_what_an_address_may_not_hold() {
        let uri = unix_uri(Path::new("/tmp/a b&c/nbd.sock"), "shop.pg");
        assert_eq!(uri, "nbd+unix:///shop.pg?socket=/tmp/a%20b%26c/nbd.sock");
    }
}
