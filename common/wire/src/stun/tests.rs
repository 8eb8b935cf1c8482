use super::*;

const PASSWORD: &[u8] = b"VOkJxbRl1RmTxUk/WvJxBt";

/// RFC 5769 section 2.1: request, padded with spaces.
const REQUEST: &str = "000100582112a442b7e7a701bc34d686fa87dfae\
    802200105354554e207465737420636c69656e74\
    002400046e0001ff80290008932ff9b151263b36\
    00060009 6576746a3a68367659202020\
    000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2\
    80280004e57a3bcf";

/// Section 2.2: IPv4 response.
const RESPONSE_V4: &str = "0101003c2112a442b7e7a701bc34d686fa87dfae\
    8022000b7465737420766563746f7220\
    002000080001a147e112a643\
    000800142b91f599fd9e90c38c7489f92af9ba53f06be7d7\
    80280004c07d4c96";

/// Section 2.3: IPv6 response.
const RESPONSE_V6: &str = "010100482112a442b7e7a701bc34d686fa87dfae\
    8022000b7465737420766563746f7220\
    002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9\
    00080014a382954e4be67bf11784c97c8292c275bfe3ed41\
    80280004c8fb0b4c";

fn bytes(hex_text: &str) -> Vec<u8> {
    hex::decode(hex_text.replace(char::is_whitespace, "")).unwrap()
}

fn check_protection(message: &[u8]) {
    let parsed = Message::parse(message).unwrap();
    assert!(parsed.verify_integrity(PASSWORD));
    assert!(!parsed.verify_integrity(b"another password"));
    assert!(parsed.verify_fingerprint());
    for bit in 0..message.len() * 8 {
        let mut forged = message.to_vec();
        forged[bit / 8] ^= 1 << (bit % 8);
        let accepted = Message::parse(&forged).is_ok_and(|m| m.verify_integrity(PASSWORD) && m.verify_fingerprint());
        assert!(!accepted, "bit {bit} may be flipped unnoticed");
    }
}

#[test]
fn rfc_5769_request() {
    let message = bytes(REQUEST);
    let request = Message::parse(&message).unwrap();
    assert_eq!(request.class, Class::Request);
    assert!(request.is_binding);
    assert_eq!(request.username, Some(&b"evtj:h6vY"[..]));
    assert_eq!(request.priority, Some(0x6e0001ff));
    assert_eq!(request.role, Some(Role::Controlled(0x932ff9b151263b36)));
    assert!(!request.use_candidate);
    assert!(request.unknown.is_empty());
    check_protection(&message);
}

#[test]
fn rfc_5769_responses() {
    for (text, address) in
        [(RESPONSE_V4, "192.0.2.1:32853"), (RESPONSE_V6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853")]
    {
        let message = bytes(text);
        let response = Message::parse(&message).unwrap();
        assert_eq!(response.class, Class::Success);
        assert_eq!(response.mapped_address, Some(address.parse().unwrap()));
        check_protection(&message);
    }
}

#[test]
fn a_written_request_is_read_back() {
    let mut out = [0; MAX_WRITTEN_BYTES];
    for (use_candidate, role) in [(true, Role::Controlling(7)), (false, Role::Controlled(u64::MAX))] {
        let id = TransactionId(*b"twelve bytes");
        let request =
            Request { transaction_id: id, username: b"abcd:efg", password: PASSWORD, priority: 5, use_candidate, role };
        let len = write_request(&mut out, &request).unwrap();
        let parsed = Message::parse(&out[..len]).unwrap();
        assert_eq!((parsed.transaction_id, parsed.username), (id, Some(&b"abcd:efg"[..])));
        assert_eq!((parsed.priority, parsed.use_candidate, parsed.role), (Some(5), use_candidate, Some(role)));
        check_protection(&out[..len]);
    }
}

#[test]
fn written_responses_are_read_back() {
    let id = TransactionId([9; 12]);
    let mut out = [0; MAX_WRITTEN_BYTES];
    for address in ["10.1.2.3:4", "[2001:db8::1]:65535"] {
        let address: SocketAddr = address.parse().unwrap();
        let len = write_success(&mut out, id, address, PASSWORD).unwrap();
        assert_eq!(Message::parse(&out[..len]).unwrap().mapped_address, Some(address));
        check_protection(&out[..len]);
        let len = write_plain_success(&mut out, id, address).unwrap();
        let plain = Message::parse(&out[..len]).unwrap();
        assert_eq!((plain.mapped_address, plain.has_integrity()), (Some(address), false));
        assert_eq!(len, if address.is_ipv4() { 32 } else { 44 });
    }
    let len = write_success(&mut out, id, "[::ffff:10.1.2.3]:4".parse().unwrap(), PASSWORD).unwrap();
    let mapped = Message::parse(&out[..len]).unwrap().mapped_address;
    assert_eq!(mapped, Some("10.1.2.3:4".parse().unwrap()), "a mapped address is answered as IPv4");
}

#[test]
fn errors_name_code_and_attributes() {
    let id = TransactionId([1; 12]);
    let mut out = [0; MAX_WRITTEN_BYTES];
    for code in [ErrorCode::BadRequest, ErrorCode::Unauthenticated, ErrorCode::RoleConflict] {
        let len = write_error(&mut out, id, code, &[], None).unwrap();
        let error = Message::parse(&out[..len]).unwrap();
        assert_eq!((error.class, error.error_code), (Class::Error, Some(code as u16)));
        assert!(error.verify_fingerprint() && !error.has_integrity());
    }
    let len =
        write_error(&mut out, id, ErrorCode::UnknownAttribute, &[0x7001, 0x7002, 0x7003], Some(PASSWORD)).unwrap();
    let error = Message::parse(&out[..len]).unwrap();
    assert_eq!(error.error_code, Some(420));
    assert_eq!(attribute_at(&out, HEADER_BYTES + 8), Some((UNKNOWN_ATTRIBUTES, &[0x70, 1, 0x70, 2, 0x70, 3][..])));
    check_protection(&out[..len]);
}

#[test]
fn unknown_required_attributes_are_listed() {
    let message = bytes("0001000c2112a442000000000000000000000000 70010001 61000000 f0010000");
    assert_eq!(Message::parse(&message).unwrap().unknown.as_slice(), [0x7001]);
}

#[test]
fn attributes_behind_the_integrity_are_ignored() {
    let mut out = [0; MAX_WRITTEN_BYTES];
    let len = write_plain_success(&mut out, TransactionId::default(), "10.1.2.3:4".parse().unwrap()).unwrap();
    let mut message = out[..len].to_vec();
    // A 20-byte MESSAGE-INTEGRITY, then USE-CANDIDATE and a lying PRIORITY nobody vouched for.
    message.extend(bytes("00080014 0000000000000000000000000000000000000000 00250000 00240000"));
    message[3] += 32;
    let parsed = Message::parse(&message).unwrap();
    assert!(!parsed.use_candidate && parsed.priority.is_none());
}

#[test]
fn lying_lengths_are_refused() {
    let request = bytes(REQUEST);
    assert_eq!(Message::parse(&request[..19]).unwrap_err(), StunError::Length);
    assert_eq!(Message::parse(&request[..request.len() - 4]).unwrap_err(), StunError::Length);
    let mut long_attribute = request.clone();
    long_attribute[22] = 0xFF;
    assert_eq!(Message::parse(&long_attribute).unwrap_err(), StunError::Attribute);
    let mut wrong_cookie = request.clone();
    wrong_cookie[4] = 0;
    assert_eq!(Message::parse(&wrong_cookie).unwrap_err(), StunError::Cookie);
    let mut short_priority = bytes("000100082112a442000000000000000000000000 0024000200010000");
    assert_eq!(Message::parse(&short_priority).unwrap_err(), StunError::Value);
    short_priority[23] = 4;
    assert_eq!(Message::parse(&short_priority).unwrap().priority, Some(0x10000));
}

#[test]
fn nothing_is_written_past_a_short_buffer() {
    let id = TransactionId::default();
    let address = "10.1.2.3:4".parse().unwrap();
    let mut out = [0; MAX_WRITTEN_BYTES];
    let len = write_success(&mut out, id, address, PASSWORD).unwrap();
    for short in 0..len {
        assert_eq!(write_success(&mut out[..short], id, address, PASSWORD), None);
    }
}
