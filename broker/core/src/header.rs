//! Content headers with something changed: what the broker adds to a message, or takes from it, on its way.
//!
//! A message keeps the header it came with. A changed one is a copy, made only for messages that need it.

use alloc::vec::Vec;

use warren_amqp::{Changes, Header, Table, TableBuilder};

/// Octets of a content header's payload before the property flags: class id, weight and body size.
const FIXED_LEN: usize = 12;

/// The payload of a content header frame with these changes. One that cannot be read comes back as it is; sessions take
/// none in.
pub fn changed(payload: &[u8], changes: &Changes<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + changes.with.octets().len() + 4);
    let change = Header::decode(payload).and_then(|header| {
        out.extend_from_slice(&payload[..FIXED_LEN]);
        header.properties.change(changes, &mut out)
    });
    if change.is_err() {
        out.clear();
        out.extend_from_slice(payload);
    }
    out
}

/// The payload as it is delivered: with `x-delivery-count` if the message came back from failed deliveries (RabbitMQ,
/// quorum queues), and with `x-stream-offset` if it was read from a stream.
pub fn delivered(payload: &[u8], delivery_count: u32, offset: Option<u64>) -> Vec<u8> {
    let with = TableBuilder::build(|table| {
        if delivery_count > 0 {
            table.put("x-delivery-count", i64::from(delivery_count));
        }
        if let Some(offset) = offset {
            table.put("x-stream-offset", i64::try_from(offset).unwrap_or(i64::MAX));
        }
    });
    changed(payload, &Changes { with: Table::new(&with), ..Changes::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use proptest::prelude::*;
    use warren_amqp::content::encode_header_payload;
    use warren_amqp::{BasicProperties, Value};

    fn payload(properties: &BasicProperties<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        encode_header_payload(7, properties, &mut out);
        out
    }

    fn table(entries: &[(&str, i64)]) -> Vec<u8> {
        TableBuilder::build(|table| {
            for (name, value) in entries {
                table.put(name, *value);
            }
        })
    }

    fn names(payload: &[u8]) -> Option<Vec<String>> {
        let headers = Header::decode(payload).expect("a header").properties.headers().expect("readable")?;
        Some(headers.iter().map(|entry| entry.expect("an entry").0.into()).collect())
    }

    #[test]
    fn entries_go_and_come_and_expiration_goes_and_all_else_stays() {
        let headers = table(&[("BCC", 1), ("kept", 2), ("x", 3), ("x", 4), ("BCC", 5)]);
        let before = BasicProperties {
            content_type: Some("text/plain"),
            headers: Some(Table::new(&headers)),
            delivery_mode: Some(2),
            priority: Some(3),
            correlation_id: Some("c"),
            reply_to: Some("amq.rabbitmq.reply-to"),
            expiration: Some("1000"),
            message_id: Some("m"),
            timestamp: Some(9),
            cluster_id: Some("x"),
            ..BasicProperties::default()
        };
        let with = table(&[("x", 6), ("y", 7)]);
        let changes = Changes {
            without: &["BCC", "absent"],
            with: Table::new(&with),
            without_expiration: true,
            reply_to: Some("token"),
        };
        let expected = table(&[("kept", 2), ("x", 6), ("y", 7)]);
        let after = BasicProperties {
            headers: Some(Table::new(&expected)),
            reply_to: Some("token"),
            expiration: None,
            ..before
        };
        assert_eq!(changed(&payload(&before), &changes), payload(&after));
    }

    #[test]
    fn a_table_comes_with_its_first_entry_and_stays_without_any() {
        let bare = payload(&BasicProperties { delivery_mode: Some(2), ..BasicProperties::default() });
        assert_eq!(names(&changed(&bare, &Changes { without: &["a"], ..Changes::default() })), None);
        let with = table(&[("a", 1)]);
        let one = changed(&bare, &Changes { with: Table::new(&with), ..Changes::default() });
        assert_eq!(names(&one), Some(["a".into()].into()));
        let none = changed(&one, &Changes { without: &["a"], ..Changes::default() });
        assert_eq!(names(&none), Some(Vec::new()));
        assert_eq!(Header::decode(&none).expect("a header").properties.delivery_mode(), Ok(Some(2)));
    }

    #[test]
    fn reply_to_is_replaced_and_never_added() {
        let changes = Changes { reply_to: Some("token"), ..Changes::default() };
        let bare = payload(&BasicProperties::default());
        assert_eq!(changed(&bare, &changes), bare);
    }

    #[test]
    fn what_the_client_says_of_counts_and_offsets_does_not_reach_the_consumer_where_the_broker_knows() {
        let headers = table(&[("x-delivery-count", 99), ("x-stream-offset", 98)]);
        let properties = BasicProperties { headers: Some(Table::new(&headers)), ..BasicProperties::default() };
        let octets = delivered(&payload(&properties), 2, Some(5));
        let headers = Header::decode(&octets).expect("a header").properties.headers().expect("readable");
        let headers = headers.expect("a table");
        assert_eq!(headers.get("x-delivery-count"), Ok(Some(Value::I64(2))));
        assert_eq!(headers.get("x-stream-offset"), Ok(Some(Value::I64(5))));
        assert_eq!(headers.iter().count(), 2);
    }

    #[test]
    fn an_unreadable_header_stays_as_it_is() {
        let good = payload(&BasicProperties { expiration: Some("1000"), ..BasicProperties::default() });
        let changes = Changes { without_expiration: true, ..Changes::default() };
        for cut in 0..good.len() {
            assert_eq!(changed(&good[..cut], &changes), &good[..cut], "cut at {cut}");
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_taken_and_no_change_changes_nothing(octets in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut payload = Vec::from(&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1][..]);
            payload.extend_from_slice(&octets);
            prop_assert_eq!(&changed(&payload, &Changes::default()), &payload);
            let with = table(&[("n", 1)]);
            let twice = || {
                let changes = Changes { without: &["a"], with: Table::new(&with), ..Changes::default() };
                let once = changed(&payload, &changes);
                (changed(&once, &changes), once)
            };
            let (again, once) = twice();
            prop_assert_eq!(again, once);
        }

        #[test]
        fn the_table_is_what_a_list_of_pairs_would_be(
            headers in prop::collection::vec(("[a-d]", 0..9_i64), 0..8),
            without in prop::collection::vec("[a-d]", 0..3),
            with in prop::collection::btree_map("[a-d]", 0..9_i64, 0..3),
        ) {
            let octets = table(&headers.iter().map(|(name, value)| (name.as_str(), *value)).collect::<Vec<_>>());
            let before = BasicProperties { headers: Some(Table::new(&octets)), ..BasicProperties::default() };
            let with_octets = table(&with.iter().map(|(name, value)| (name.as_str(), *value)).collect::<Vec<_>>());
            let without: Vec<&str> = without.iter().map(String::as_str).collect();
            let changes = Changes { without: &without, with: Table::new(&with_octets), ..Changes::default() };
            let kept = headers.iter().filter(|(name, _)| !without.contains(&name.as_str()) && !with.contains_key(name));
            let all: Vec<_> = kept.map(|(name, value)| (name.as_str(), *value)).collect();
            let all = table(&[all, with.iter().map(|(name, value)| (name.as_str(), *value)).collect()].concat());
            let after = BasicProperties { headers: Some(Table::new(&all)), ..before };
            prop_assert_eq!(changed(&payload(&before), &changes), payload(&after));
        }
    }
}
