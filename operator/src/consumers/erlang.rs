//! How likely a message waits, and for how long, if so many consumers share a queue: the formula of A. K. Erlang (1917) for
//! arrivals and services at random times, M/M/c.

/// The probability that a message finds all of `servers` busy. `load` is the arrival rate times the service time, in
/// servers (erlangs).
///
/// 1 from the load on that the servers cannot carry.
pub fn waiting_probability(servers: u32, load: f64) -> f64 {
    if load <= 0.0 {
        return 0.0;
    }
    let count = f64::from(servers);
    if load >= count {
        return 1.0;
    }
    // Erlang's B by its recurrence, which neither overflows nor cancels, and C from it.
    let blocking = (1..=servers).fold(1.0, |blocking, server| load * blocking / (f64::from(server) + load * blocking));
    count * blocking / (count - load * (1.0 - blocking))
}

/// The probability that a message waits longer than `seconds` for one of `servers`, each of which takes `rate` messages a
/// second, when `arrivals` come in a second.
pub fn late_probability(servers: u32, arrivals: f64, rate: f64, seconds: f64) -> f64 {
    let spare = f64::from(servers) * rate - arrivals;
    if spare <= 0.0 {
        return 1.0;
    }
    waiting_probability(servers, arrivals / rate) * (-spare * seconds).exp()
}

/// The least number of servers, up to `most`, with which at most `share` of the messages wait longer than `seconds`.
pub fn servers_for(arrivals: f64, rate: f64, seconds: f64, share: f64, most: u32) -> u32 {
    if arrivals <= 0.0 || most == 0 {
        return 0;
    }
    let is_enough = |servers: &u32| late_probability(*servers, arrivals, rate, seconds) <= share;
    // More servers never make it later, so that the first that is enough is found by halving.
    let (mut low, mut high) = (1, most);
    while low < high {
        let middle = low + (high - low) / 2;
        if is_enough(&middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_formula_gives_the_values_of_published_tables() {
        for (servers, load, expected) in [(1, 0.5, 0.5), (2, 1.0, 1.0 / 3.0), (10, 8.0, 0.409), (50, 40.0, 0.087)] {
            let found = waiting_probability(servers, load);
            assert!((found - expected).abs() < 0.001, "{servers} servers, {load} erlangs: {found}");
        }
    }

    #[test]
    fn a_load_that_cannot_be_carried_waits_for_ever() {
        assert_eq!(waiting_probability(3, 3.0), 1.0);
        assert_eq!(late_probability(3, 30.0, 10.0, 60.0), 1.0);
        assert_eq!(servers_for(1_000.0, 1.0, 1.0, 0.01, 50), 50);
    }

    #[test]
    fn nothing_that_arrives_needs_nobody() {
        assert_eq!(waiting_probability(0, 0.0), 0.0);
        assert_eq!(servers_for(0.0, 1.0, 1.0, 0.01, 50), 0);
    }

    proptest! {
        #[test]
        fn one_more_server_never_makes_it_later(servers in 1_u32..400, load in 0.01_f64..500.0) {
            prop_assert!(waiting_probability(servers + 1, load) <= waiting_probability(servers, load) + 1e-12);
        }

        #[test]
        fn the_number_found_is_enough_and_one_less_is_not(
            arrivals in 0.01_f64..5_000.0, rate in 0.1_f64..100.0, seconds in 0.0_f64..60.0,
        ) {
            let found = servers_for(arrivals, rate, seconds, 0.01, 100_000);
            prop_assert!(late_probability(found, arrivals, rate, seconds) <= 0.01);
            prop_assert!(found == 1 || late_probability(found - 1, arrivals, rate, seconds) > 0.01);
        }
    }
}
