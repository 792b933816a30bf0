//! Field tables: RabbitMQ's types, limits, hostile shapes.

use proptest::prelude::*;
use warren_amqp::limits::{TABLE, TABLE_BEFORE_LOGIN};
use warren_amqp::{Array, ReplyCode, Table, TableBuilder, TableError, TableLimits, Value};

/// One entry named `k`.
fn entry(value: &[u8]) -> Vec<u8> {
    [b"\x01k", value].concat()
}

/// `levels` tables inside each other, the outermost included, each the only entry of the one around it.
fn nested_tables(levels: usize) -> Vec<u8> {
    nested(levels, b"\x01tF")
}

fn nested(levels: usize, head: &[u8]) -> Vec<u8> {
    let mut octets = Vec::new();
    for _ in 1..levels {
        let length = u32::try_from(octets.len()).expect("a short table");
        octets = [head, &length.to_be_bytes(), &octets].concat();
    }
    octets
}

#[test]
fn every_type_of_rabbitmq_is_read_with_its_width_and_sign() {
    let cases: [(&[u8], Value<'_>, &str); 20] = [
        (b"t\x00", Value::Bool(false), "bool"),
        (b"t\x02", Value::Bool(true), "bool"),
        (b"b\xff", Value::I8(-1), "byte"),
        (b"B\xff", Value::U8(255), "unsignedbyte"),
        (b"s\xff\xfe", Value::I16(-2), "short"),
        (b"u\xff\xfe", Value::U16(65_534), "unsignedshort"),
        (b"I\xff\xff\xff\xfd", Value::I32(-3), "signedint"),
        (b"i\xff\xff\xff\xfd", Value::U32(4_294_967_293), "unsignedint"),
        (b"l\xff\xff\xff\xff\xff\xff\xff\xfc", Value::I64(-4), "long"),
        (b"L\xff\xff\xff\xff\xff\xff\xff\xfc", Value::I64(-4), "long"),
        (b"f\x3f\x80\x00\x00", Value::F32(1.0), "float"),
        (b"d\xc0\x00\x00\x00\x00\x00\x00\x00", Value::F64(-2.0), "double"),
        (b"D\x02\x00\x00\x01\x3a", Value::Decimal { scale: 2, unscaled: 314 }, "decimal"),
        (b"S\x00\x00\x00\x02\xff\x00", Value::LongString(b"\xff\x00"), "longstr"),
        (b"x\x00\x00\x00\x01\x80", Value::Binary(b"\x80"), "binary"),
        (b"A\x00\x00\x00\x02t\x01", Value::Array(Array::new(b"t\x01")), "array"),
        (b"T\x00\x00\x00\x00\x5f\x5e\x10\x00", Value::Timestamp(1_600_000_000), "timestamp"),
        (b"F\x00\x00\x00\x03\x01aV", Value::Table(Table::new(b"\x01aV")), "table"),
        (b"F\x00\x00\x00\x00", Value::Table(Table::EMPTY), "table"),
        (b"V", Value::Void, "void"),
    ];
    for (octets, value, name) in cases {
        let table = entry(octets);
        let table = Table::new(&table);
        assert_eq!(table.iter().collect::<Vec<_>>(), [Ok(("k", value))]);
        assert_eq!(value.type_name(), name);
        assert_eq!(table.validate(&TABLE), Ok(()));
        assert_eq!(Array::new(octets).iter().collect::<Vec<_>>(), [Ok(value)], "the same in an array");
        let written = TableBuilder::build(|table| {
            table.put("k", value);
        });
        if octets != b"t\x02" && octets[0] != b'L' {
            assert_eq!(written, entry(octets), "written as it was read");
        }
    }
}

#[test]
fn what_rabbitmq_cannot_decode_is_541() {
    let unknown = (b'a'..=b'z').chain(b'A'..=b'Z').filter(|kind| !b"tbBsuIilLfdDSxATFV".contains(kind));
    for kind in unknown.chain([0, b'0', 0xff]) {
        let table = entry(&[kind, 0, 0, 0, 0, 0, 0, 0, 0]);
        let error = Table::new(&table).validate(&TABLE).expect_err("an unknown type");
        assert_eq!(error, TableError::UnknownType(kind));
        assert_eq!(error.reply_code(), ReplyCode::InternalError);
    }
    let malformed: [(&[u8], TableError); 11] = [
        (b"\x01", TableError::Truncated),
        (b"\x01k", TableError::Truncated),
        (b"\x02kV", TableError::Truncated),
        (b"\x01kI\x00\x00\x00", TableError::Truncated),
        (b"\x01kS\x00\x00\x00\x02x", TableError::Truncated),
        (b"\x01kS\xff\xff\xff\xffx", TableError::Truncated),
        (b"\x01kF\x00\x00\x00\x01\x01", TableError::Truncated),
        (b"\x01kA\x00\x00\x00\x02S\x00", TableError::Truncated),
        (b"\x01kV\x00", TableError::Truncated),
        (b"\x01kf\x7f\x80\x00\x00", TableError::NotFinite),
        (b"\x01kd\x7f\xf8\x00\x00\x00\x00\x00\x00", TableError::NotFinite),
    ];
    for (octets, expected) in malformed {
        let error = Table::new(octets).validate(&TABLE).expect_err("a malformed table");
        assert_eq!(error, expected, "{octets:?}");
        assert_eq!(error.reply_code(), ReplyCode::InternalError);
    }
}

#[test]
fn a_spec_style_short_string_is_read_as_rabbitmqs_16_bits() {
    // By the specification's letter `s` is a short string, here "ab"; its first two octets are RabbitMQ's number.
    let table = entry(b"s\x02ab");
    assert_eq!(Table::new(&table).iter().next(), Some(Ok(("k", Value::I16(0x0261)))));
    assert_eq!(Table::new(&table).validate(&TABLE), Err(TableError::Truncated));
}

#[test]
fn a_name_that_is_not_utf8_is_502() {
    let error = Table::new(b"\x01\xffV").validate(&TABLE).expect_err("not UTF-8");
    assert_eq!((error, error.reply_code()), (TableError::NameNotUtf8, ReplyCode::SyntaxError));
}

#[test]
fn walking_ends_at_the_first_error() {
    let table = Table::new(b"\x01aV\x01b?\x01cV");
    let entries: Vec<_> = table.iter().collect();
    assert_eq!(entries, [Ok(("a", Value::Void)), Err(TableError::UnknownType(b'?'))]);
    assert_eq!(table.get("a"), Ok(Some(Value::Void)));
    assert_eq!(table.get("c"), Err(TableError::UnknownType(b'?')));
}

#[test]
fn the_first_of_equal_names_counts() {
    let octets = TableBuilder::build(|table| {
        table.put("k", 1).put("k", 2);
    });
    assert_eq!(Table::new(&octets).get("k"), Ok(Some(Value::I32(1))));
    assert_eq!(Table::new(&octets).get("absent"), Ok(None));
    assert_eq!(Table::new(&octets).iter().count(), 2);
}

#[test]
fn integers_of_any_width_are_one_number() {
    let seven = [Value::I8(7), Value::U8(7), Value::I16(7), Value::U16(7), Value::I32(7), Value::U32(7), Value::I64(7)];
    assert!(seven.iter().all(|value| value.as_integer() == Some(7)));
    for other in [Value::Timestamp(7), Value::F64(7.0), Value::Bool(true), Value::Void, Value::LongString(b"7")] {
        assert_eq!(other.as_integer(), None);
    }
}

#[test]
fn nested_tables_and_arrays_are_built_and_found() {
    let octets = TableBuilder::build(|table| {
        table.put("product", "RabbitMQ");
        table.table("capabilities", |table| {
            table.put("basic.nack", true).put("limit", 5_i64);
        });
        table.array("list", |array| {
            array.push("one").push(false);
            array.table(|table| {
                table.put("inner", 2);
            });
            array.array(|array| {
                array.push(3);
            });
        });
    });
    let table = Table::new(&octets);
    assert_eq!(table.validate(&TABLE), Ok(()));
    assert_eq!(table.get("product").expect("walkable").and_then(|value| value.as_str()), Some("RabbitMQ"));
    let capabilities = table.get("capabilities").expect("walkable").and_then(|value| value.as_table());
    let capabilities = capabilities.expect("a table");
    assert_eq!(capabilities.get("basic.nack"), Ok(Some(Value::Bool(true))));
    let list = table.get("list").expect("walkable").and_then(|value| value.as_array()).expect("an array");
    let elements: Vec<_> = list.iter().collect::<Result<_, _>>().expect("walkable");
    assert_eq!(elements[0].as_str(), Some("one"));
    assert_eq!(elements[1].as_bool(), Some(false));
    assert_eq!(elements[2].as_table().expect("a table").get("inner"), Ok(Some(Value::I32(2))));
    assert_eq!(elements[3].as_array().expect("an array").iter().collect::<Vec<_>>(), [Ok(Value::I32(3))]);
}

/// The value at the limit passes; one more does not, with this error.
fn check_limit(limits: &TableLimits, make: impl Fn(usize) -> Vec<u8>, limit: usize, expected: TableError) {
    assert_eq!(Table::new(&make(limit)).validate(limits), Ok(()), "at the limit of {limit}");
    let error = Table::new(&make(limit + 1)).validate(limits).expect_err("one above the limit");
    assert_eq!((error, error.reply_code()), (expected, ReplyCode::ResourceError));
}

#[test]
fn limits_hold_at_their_value_and_not_one_above() {
    for limits in [TABLE, TABLE_BEFORE_LOGIN] {
        let too_deep = TableError::TooDeep { limit: limits.depth };
        check_limit(&limits, nested_tables, limits.depth, too_deep);
        let arrays_in_table = |levels: usize| {
            let inner = nested(levels - 1, b"A");
            let length = u32::try_from(inner.len()).expect("a short array");
            entry(&[&b"A"[..], &length.to_be_bytes(), &inner].concat())
        };
        check_limit(&limits, arrays_in_table, limits.depth, too_deep);

        let too_many = TableError::TooManyEntries { limit: limits.entries };
        check_limit(&limits, |entries| b"\x00V".repeat(entries), limits.entries, too_many);
        let in_array = |entries: usize| {
            let length = u32::try_from(entries - 1).expect("a short array");
            entry(&[&b"A"[..], &length.to_be_bytes(), &b"V".repeat(entries - 1)].concat())
        };
        check_limit(&limits, in_array, limits.entries, too_many);

        let too_large = TableError::TooLarge { size: limits.octets + 1, limit: limits.octets };
        let one_entry = |octets: usize| {
            let text = vec![b'x'; octets - 7];
            let length = u32::try_from(text.len()).expect("a short text");
            entry(&[&b"S"[..], &length.to_be_bytes(), &text].concat())
        };
        check_limit(&limits, one_entry, limits.octets, too_large);
    }
}

#[test]
fn a_depth_bomb_costs_no_stack() {
    let bomb = nested(20_000, b"\x00F");
    assert!(bomb.len() > 100_000);
    let walk = move || {
        let table = Table::new(&bomb);
        assert_eq!(table.iter().count(), 1);
        let everything = TableLimits { depth: usize::MAX, entries: usize::MAX, octets: usize::MAX };
        assert_eq!(table.validate(&everything), Ok(()));
        assert!(table.validate(&TABLE).is_err());
    };
    // 64 KiB of stack; a call per level would need many times that.
    std::thread::Builder::new()
        .stack_size(64 * 1_024)
        .spawn(walk)
        .expect("a thread starts")
        .join()
        .expect("the walk ends");
}

#[test]
fn limits_of_zero_refuse_even_the_empty_table_by_depth() {
    let none = TableLimits { depth: 0, entries: 0, octets: 0 };
    assert_eq!(Table::EMPTY.validate(&none), Err(TableError::TooDeep { limit: 0 }));
    assert_eq!(Table::EMPTY.validate(&TableLimits { depth: 1, ..none }), Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn no_octets_make_a_walk_panic_or_go_beyond_them(octets in prop::collection::vec(
        prop_oneof![any::<u8>(), Just(0), Just(1), prop::sample::select(b"tbBsuIilLfdDSxATFV".to_vec())], 0..200)
    ) {
        let table = Table::new(&octets);
        let walked = table.iter().count();
        prop_assert!(walked <= octets.len());
        let _ = table.get("k");
        let _ = Array::new(&octets).iter().count();
        if table.validate(&TABLE).is_ok() {
            prop_assert!(table.iter().all(|entry| entry.is_ok()));
        }
    }

    #[test]
    fn entries_are_read_as_they_were_put(entries in prop::collection::vec(
        (".{0,40}", prop_oneof![
            any::<bool>().prop_map(Value::Bool),
            any::<i8>().prop_map(Value::I8),
            any::<u8>().prop_map(Value::U8),
            any::<i16>().prop_map(Value::I16),
            any::<u16>().prop_map(Value::U16),
            any::<i32>().prop_map(Value::I32),
            any::<u32>().prop_map(Value::U32),
            any::<i64>().prop_map(Value::I64),
            prop::num::f32::NORMAL.prop_map(Value::F32),
            prop::num::f64::NORMAL.prop_map(Value::F64),
            any::<u64>().prop_map(Value::Timestamp),
            Just(Value::Void),
        ]), 0..20)
    ) {
        let octets = TableBuilder::build(|table| {
            for (name, value) in &entries {
                table.put(name, *value);
            }
        });
        let read: Vec<_> = Table::new(&octets).iter().collect::<Result<_, _>>()?;
        let put: Vec<_> = entries.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        prop_assert_eq!(read, put);
    }
}
