//! What the API server said, in the words that it meant for people.

/// The sentence in an error of the client, without the structure around it.
pub fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::said;
    use kube::core::Status;

    #[test]
    fn a_refusal_is_its_sentence_only() {
        let status = Status::failure("services \"hello\" is forbidden: exceeded quota", "Forbidden").with_code(403);
        assert_eq!(said(&kube::Error::Api(status.boxed())), "services \"hello\" is forbidden: exceeded quota");
    }
}
