//! The Kubernetes operator for MessageQueue resources.
