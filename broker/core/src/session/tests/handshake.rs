//! From the protocol header to `connection.open-ok`.

use std::vec::Vec;

use warren_amqp::frame::PROTOCOL_HEADER;
use warren_amqp::{Table, TableBuilder, ToClient, ToServer, Value, connection};

use super::world::*;
use crate::limits::{CHANNEL_MAX, FRAME_MAX, FRAME_MAX_BEFORE_OPEN, FRAME_MIN, HEARTBEAT_SECS};

const LOGIN_REFUSED: &str =
    "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile.";

/// A connection that has been sent `connection.start`.
fn started() -> World {
    let mut world = World::empty();
    world.connect();
    world.send_octets(ME, &PROTOCOL_HEADER);
    world.heard(ME);
    world
}

fn log_in(world: &mut World, capabilities: &[&str], mechanism: &str, response: &[u8]) -> Vec<Said> {
    let properties = client_properties(capabilities);
    world.send(ME, 0, ToServer::ConnectionStartOk(start_ok(Table::new(&properties), mechanism, response)));
    world.heard(ME)
}

/// A connection that has been sent `connection.tune`.
fn tuned() -> World {
    let mut world = started();
    let heard = log_in(&mut world, &["authentication_failure_close"], "PLAIN", b"\0guest\0guest");
    let tune = connection::Tune { channel_max: CHANNEL_MAX, frame_max: FRAME_MAX, heartbeat: HEARTBEAT_SECS };
    assert_eq!(heard[0].method(), ToClient::ConnectionTune(tune));
    world
}

fn tune_ok(world: &mut World, channel_max: u16, frame_max: u32) {
    let tune_ok = connection::TuneOk { channel_max, frame_max, heartbeat: 0 };
    world.send(ME, 0, ToServer::ConnectionTuneOk(tune_ok));
}

#[test]
fn start_announces_what_clients_look_for() {
    let mut world = World::empty();
    world.connect();
    world.send_octets(ME, &PROTOCOL_HEADER);
    let heard = world.heard(ME);
    let ToClient::ConnectionStart(start) = heard[0].method() else { panic!("{heard:?}") };
    assert_eq!((start.version_major, start.version_minor, start.mechanisms), (0, 9, &b"PLAIN AMQPLAIN"[..]));
    let text = |name| start.server_properties.get(name).unwrap().and_then(|value| value.as_str());
    assert_eq!(text("product"), Some("RabbitMQ"));
    assert!(text("version").unwrap().starts_with("4.3."));
    let capabilities = start.server_properties.get("capabilities").unwrap().unwrap().as_table().unwrap();
    for name in ["publisher_confirms", "basic.nack", "consumer_cancel_notify", "authentication_failure_close"] {
        assert_eq!(capabilities.get(name), Ok(Some(Value::Bool(true))), "{name}");
    }
}

#[test]
fn a_protocol_header_in_pieces_is_put_together() {
    let mut world = World::empty();
    world.connect();
    world.send_octets(ME, &PROTOCOL_HEADER[..3]);
    assert!(world.heard_octets(ME).is_empty());
    world.send_octets(ME, &PROTOCOL_HEADER[3..]);
    assert_eq!(world.heard(ME).len(), 1);
}

#[test]
fn a_wrong_protocol_header_is_answered_by_ours_and_closed() {
    for octets in [&b"GET / HTTP/1.1\r\n"[..], b"AMQP\x00\x01\x00\x00", b"\x16\x03\x01", b"AMQP\x00\x00\x09\x02"] {
        let mut world = World::empty();
        world.connect();
        world.send_octets(ME, octets);
        assert_eq!(world.heard_octets(ME), PROTOCOL_HEADER, "{octets:?}");
        assert!(world.is_closed(ME));
    }
}

#[test]
fn plain_and_amqplain_lead_to_tune() {
    let table = TableBuilder::build(|table| {
        table.put("LOGIN", Value::LongString(b"guest")).put("PASSWORD", Value::LongString(b"guest"));
    });
    for (mechanism, response) in [("PLAIN", &b"\0guest\0guest"[..]), ("AMQPLAIN", &table)] {
        let heard = log_in(&mut started(), &[], mechanism, response);
        assert!(matches!(heard[0].method(), ToClient::ConnectionTune(_)), "{mechanism}");
    }
}

#[test]
fn wrong_credentials_are_told_to_clients_that_announced_authentication_failure_close() {
    for response in [&b"\0guest\0wrong"[..], b"\0nobody\0guest"] {
        let mut world = started();
        let heard = log_in(&mut world, &["authentication_failure_close"], "PLAIN", response);
        heard[0].closes_connection(403, LOGIN_REFUSED, (0, 0));
        assert!(!world.is_closed(ME), "the client's close-ok is to come");
        world.send(ME, 0, ToServer::ConnectionCloseOk(connection::CloseOk));
        assert!(world.is_closed(ME));
    }
}

#[test]
fn wrong_credentials_of_other_clients_close_bare() {
    let mut world = started();
    assert!(log_in(&mut world, &[], "PLAIN", b"\0guest\0wrong").is_empty());
    assert!(world.is_closed(ME));
}

#[test]
fn an_unknown_mechanism_and_a_malformed_response_close_bare() {
    for (mechanism, response) in [("EXTERNAL", &b""[..]), ("plain", b"\0guest\0guest"), ("PLAIN", b"nonsense")] {
        let mut world = started();
        let heard = log_in(&mut world, &["authentication_failure_close"], mechanism, response);
        assert!(heard.is_empty() && world.is_closed(ME), "{mechanism}: {heard:?}");
    }
}

#[test]
fn limits_may_be_lowered() {
    let mut world = tuned();
    tune_ok(&mut world, 1, FRAME_MIN);
    let open = ToServer::ConnectionOpen(connection::Open { virtual_host: "/" });
    assert_eq!(world.call(ME, 0, open).method(), ToClient::ConnectionOpenOk(connection::OpenOk));
}

#[test]
fn limits_out_of_range_close_bare() {
    let pairs = [(0, FRAME_MAX), (CHANNEL_MAX + 1, FRAME_MAX), (1, 0), (1, FRAME_MIN - 1), (1, FRAME_MAX + 1)];
    for (channel_max, frame_max) in pairs {
        let mut world = tuned();
        tune_ok(&mut world, channel_max, frame_max);
        assert!(world.heard_octets(ME).is_empty());
        assert!(world.is_closed(ME), "channel_max {channel_max}, frame_max {frame_max}");
    }
}

#[test]
fn an_unknown_virtual_host_is_530() {
    let mut world = tuned();
    tune_ok(&mut world, 1, FRAME_MAX);
    let said = world.call(ME, 0, ToServer::ConnectionOpen(connection::Open { virtual_host: "nope" }));
    said.closes_connection(530, "NOT_ALLOWED - vhost nope not found", connection::Open::ID);
}

#[test]
fn a_frame_larger_than_8192_before_open_is_501_from_its_first_octets_on() {
    let mut world = started();
    let [s3, s2, s1, s0] = (FRAME_MAX_BEFORE_OPEN + 1).to_be_bytes();
    world.send_octets(ME, &[1, 0, 0, s3, s2, s1, s0]);
    let heard = world.heard(ME);
    let text = "FRAME_ERROR - type 1, channel 0: {frame_too_large,8193,8192}";
    heard[0].closes_connection(501, text, (0, 0));
}

#[test]
fn methods_out_of_turn_close_bare_before_the_limits_are_agreed_on() {
    for (number, method) in [
        (0, ToServer::ConnectionOpen(connection::Open { virtual_host: "/" })),
        (1, ToServer::ChannelOpen(warren_amqp::channel::Open)),
    ] {
        for mut world in [started(), tuned()] {
            world.send(ME, number, method);
            assert!(world.heard_octets(ME).is_empty());
            assert!(world.is_closed(ME), "{}", method.name());
        }
    }
}

#[test]
fn methods_out_of_turn_are_504_and_channels_505_before_open() {
    let opening = || {
        let mut world = tuned();
        tune_ok(&mut world, 1, FRAME_MAX);
        world
    };
    let again = connection::TuneOk { channel_max: 1, frame_max: FRAME_MAX, heartbeat: 0 };
    let said = opening().call(ME, 0, ToServer::ConnectionTuneOk(again));
    let text = "CHANNEL_ERROR - unexpected method in connection state opening";
    said.closes_connection(504, text, connection::TuneOk::ID);
    let said = opening().call(ME, 1, ToServer::ChannelOpen(warren_amqp::channel::Open));
    said.closes_connection(505, "UNEXPECTED_FRAME - channel 1 used before connection.open", (20, 10));
}

#[test]
fn a_client_may_leave_before_open() {
    let mut world = tuned();
    let close = connection::Close { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 };
    let said = world.call(ME, 0, ToServer::ConnectionClose(close));
    assert_eq!(said.method(), ToClient::ConnectionCloseOk(connection::CloseOk));
    assert!(world.is_closed(ME));
}

#[test]
fn capabilities_that_are_not_a_table_are_none() {
    let properties = TableBuilder::build(|table| {
        table.put("capabilities", true);
    });
    let mut world = started();
    world.send(ME, 0, ToServer::ConnectionStartOk(start_ok(Table::new(&properties), "PLAIN", b"\0guest\0wrong")));
    assert!(world.heard_octets(ME).is_empty());
    assert!(world.is_closed(ME));
}

#[test]
fn malformed_client_properties_are_an_error_and_no_panic() {
    let mut world = started();
    let said = world.call(ME, 0, ToServer::ConnectionStartOk(start_ok(Table::new(b"\x05ab"), "PLAIN", b"")));
    assert!(matches!(said.method(), ToClient::ConnectionClose(close) if close.reply_code == 541), "{said:?}");
}
