//! What the operator has declared in a broker, kept there as parameters of the cluster. Only that is ever deleted.
//!
//! ```json
//! {"name": "warren_declared_0", "value": {"of": 2, "objects": [{"queue": ["/", "orders"]}, {"user": "app"}]}}
//! ```
//!
//! A broker takes 16 KiB in a parameter, so that there may be several; `of` is how many, and counts in the first.

use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::object::Object;
use crate::broker_api::{Answer, BrokerApi, BrokerError};

/// The longest part, in octets of JSON, so that it fits with what is around it.
const PART_LENGTH_MAX: usize = 12 << 10;

/// More parts are not read. What a MessageQueue may declare is far less.
const PARTS_MAX: usize = 64;

#[derive(Serialize, Deserialize)]
struct Part {
    of: usize,
    objects: Vec<Object>,
}

/// What is kept in the broker. What another release has written and this one cannot read counts as nothing.
///
/// # Errors
/// The broker does not answer.
pub async fn read(api: &BrokerApi) -> Result<Vec<Object>, BrokerError> {
    let (mut objects, mut parts) = (Vec::new(), 1);
    let mut number = 0;
    while number < parts {
        let answer = api.call(Method::GET, &path(number), None).await?;
        if answer.status != StatusCode::NOT_FOUND {
            refuse_all_but_success(&answer)?;
            if let Ok(part) = serde_json::from_value::<Part>(answer.body["value"].clone()) {
                objects.extend(part.objects);
                parts = if number == 0 { part.of.min(PARTS_MAX) } else { parts };
            }
        }
        number += 1;
    }
    Ok(objects)
}

/// Replaces what is kept in the broker.
///
/// # Errors
/// The broker does not answer, or has no room.
pub async fn write(api: &BrokerApi, objects: &[Object]) -> Result<(), BrokerError> {
    let parts = parts(objects);
    // The first part comes last, since it says how many there are.
    for (number, part) in parts.iter().enumerate().rev() {
        let body = json!({"value": Part { of: parts.len(), objects: part.to_vec() }});
        refuse_all_but_success(&api.call(Method::PUT, &path(number), Some(&body)).await?)?;
    }
    let mut number = parts.len();
    while api.call(Method::DELETE, &path(number), None).await?.status.is_success() {
        number += 1;
    }
    Ok(())
}

fn path(number: usize) -> String {
    format!("/api/global-parameters/warren_declared_{number}")
}

fn refuse_all_but_success(answer: &Answer) -> Result<(), BrokerError> {
    if answer.status.is_success() { Ok(()) } else { Err(BrokerError::Answered(answer.reason())) }
}

/// At least one part, each of at most [`PART_LENGTH_MAX`] unless a single object is longer.
fn parts(objects: &[Object]) -> Vec<&[Object]> {
    let mut parts = Vec::new();
    let (mut start, mut length) = (0, 0);
    for (at, object) in objects.iter().enumerate() {
        let octets = serde_json::to_string(object).map_or(0, |text| text.len() + 1);
        if length + octets > PART_LENGTH_MAX && at > start {
            parts.push(&objects[start..at]);
            (start, length) = (at, 0);
        }
        length += octets;
    }
    parts.push(&objects[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_short_and_whole_together() {
        let queue = |number: usize| Object::Queue("v".repeat(128), format!("{number:0200}"));
        let all: Vec<Object> = (0..256).map(queue).collect();
        let parts = parts(&all);
        assert!(parts.len() > 1 && parts.len() < 10, "{}", parts.len());
        assert!(parts.iter().all(|part| serde_json::to_string(part).unwrap().len() <= PART_LENGTH_MAX + 2));
        assert_eq!(parts.concat(), all);
    }

    #[test]
    fn nothing_is_one_empty_part() {
        assert_eq!(parts(&[]), [&[] as &[Object]]);
    }
}
