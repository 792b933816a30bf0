//! Prometheus' text format, version 0.0.4: `# HELP` and `# TYPE` of a family, then all its samples.

use std::fmt::Write as _;

/// What a family's samples mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It only grows, until the process ends.
    Counter,
    /// It comes and goes.
    Gauge,
    /// Counts up to bounds.
    Histogram,
}

/// A metric's name behind the prefix, its kind, and what it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
}

impl Family {
    pub(super) const fn counter(name: &'static str, help: &'static str) -> Self {
        Self { name, kind: Kind::Counter, help }
    }

    pub(super) const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { name, kind: Kind::Gauge, help }
    }
}

/// Text that is being written. `prefix` is what every name begins with.
#[derive(Debug)]
pub(super) struct Text {
    prefix: &'static str,
    octets: String,
}

impl Text {
    pub(super) const fn new(prefix: &'static str) -> Self {
        Self { prefix, octets: String::new() }
    }

    /// Begins a family.
    pub(super) fn family(&mut self, family: &Family) {
        let Family { name, kind, help } = family;
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let prefix = self.prefix;
        // Writing to a string cannot fail.
        let _ = write!(self.octets, "# HELP {prefix}{name} {help}\n# TYPE {prefix}{name} {kind}\n");
    }

    /// Adds a sample of the family that was begun last.
    pub(super) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.octets.push_str(self.prefix);
        self.octets.push_str(name);
        for (index, (label, value)) in labels.iter().enumerate() {
            self.octets.push(if index == 0 { '{' } else { ',' });
            self.octets.push_str(label);
            self.octets.push_str("=\"");
            self.escaped(value);
            self.octets.push('"');
        }
        if !labels.is_empty() {
            self.octets.push('}');
        }
        let _ = writeln!(self.octets, " {value}");
    }

    /// A family of one sample.
    pub(super) fn one(&mut self, family: &Family, labels: &[(&str, &str)], value: f64) {
        self.family(family);
        self.sample(family.name, labels, value);
    }

    /// A histogram of one set of labels. `counts`: how many fell behind the bound before and up to each of `bounds`, then
    /// how many beyond the last.
    pub(super) fn histogram(
        &mut self,
        family: &Family,
        labels: &[(&str, &str)],
        bounds: &[u64],
        counts: &[u64],
        sum: f64,
    ) {
        self.family(family);
        let (mut total, name) = (0, format!("{}_bucket", family.name));
        for (index, count) in counts.iter().enumerate() {
            total += count;
            let bound = bounds.get(index).map_or_else(|| String::from("+Inf"), u64::to_string);
            let labels: Vec<_> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
            self.sample(&name, &labels, total as f64);
        }
        self.sample(&format!("{}_sum", family.name), labels, sum);
        self.sample(&format!("{}_count", family.name), labels, total as f64);
    }

    /// Adds text that is in this format already.
    pub(super) fn append(&mut self, text: &str) {
        self.octets.push_str(text);
    }

    pub(super) fn len(&self) -> usize {
        self.octets.len()
    }

    /// Takes what has been written.
    pub(super) fn take(&mut self) -> String {
        std::mem::take(&mut self.octets)
    }

    fn escaped(&mut self, value: &str) {
        for character in value.chars() {
            match character {
                '\\' => self.octets.push_str("\\\\"),
                '"' => self.octets.push_str("\\\""),
                '\n' => self.octets.push_str("\\n"),
                other => self.octets.push(other),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_clients_end_no_label_and_no_line() {
        let mut text = Text::new("a_");
        text.one(&Family::gauge("b", "c"), &[("queue", "one\"} 1\n\\"), ("vhost", "/")], 2.5);
        assert_eq!(text.take(), "# HELP a_b c\n# TYPE a_b gauge\na_b{queue=\"one\\\"} 1\\n\\\\\",vhost=\"/\"} 2.5\n");
    }

    #[test]
    fn buckets_of_a_histogram_are_cumulative() {
        let mut text = Text::new("");
        let family = Family { name: "h", kind: Kind::Histogram, help: "i" };
        text.histogram(&family, &[("p", "q")], &[10, 20], &[1, 2, 4], 99.0);
        let lines = "h_bucket{p=\"q\",le=\"10\"} 1\nh_bucket{p=\"q\",le=\"20\"} 3\nh_bucket{p=\"q\",le=\"+Inf\"} 7\n\
                     h_sum{p=\"q\"} 99\nh_count{p=\"q\"} 7\n";
        assert_eq!(text.take(), format!("# HELP h i\n# TYPE h histogram\n{lines}"));
    }

    #[test]
    fn whole_numbers_have_no_fraction() {
        let mut text = Text::new("");
        text.sample("n", &[], 123_456_789_012.0);
        assert_eq!(text.take(), "n 123456789012\n");
    }
}
