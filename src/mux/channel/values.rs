//! What an application says of itself (specification, section 4.1).

use crate::wire::{Pairs, variable};

/// The answer to GET_VALUES. What an application leaves out, or what is no number, is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Values {
    /// FCGI_MPXS_CONNS: many requests at once on one connection.
    pub multiplexes: bool,
    /// FCGI_MAX_CONNS: connections at once.
    pub connections: Option<u32>,
    /// FCGI_MAX_REQS: requests at once, over all connections.
    pub requests: Option<u32>,
}

impl Values {
    /// `content`: of a GET_VALUES_RESULT.
    pub fn decode(content: &[u8]) -> Self {
        let mut values = Self::default();
        for (name, value) in Pairs::new(content).filter_map(Result::ok) {
            let number = std::str::from_utf8(value).ok().and_then(|text| text.trim().parse().ok());
            match name {
                variable::MPXS_CONNS => values.multiplexes = number.is_some_and(|number: u32| number > 0),
                variable::MAX_CONNS => values.connections = number.filter(|number| *number > 0),
                variable::MAX_REQS => values.requests = number.filter(|number| *number > 0),
                _ => {}
            }
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::put_pair;

    fn decode(pairs: &[(&[u8], &[u8])]) -> Values {
        let mut content = vec![];
        pairs.iter().for_each(|(name, value)| put_pair(&mut content, name, value));
        Values::decode(&content)
    }

    #[test]
    fn what_is_said_is_read_and_what_is_not_is_not_made_up() {
        let all = [(variable::MPXS_CONNS, &b"1"[..]), (variable::MAX_CONNS, b"7"), (variable::MAX_REQS, b"50")];
        assert_eq!(decode(&all), Values { multiplexes: true, connections: Some(7), requests: Some(50) });
        assert_eq!(decode(&[]), Values::default());
        let odd = [(variable::MPXS_CONNS, &b"yes"[..]), (variable::MAX_CONNS, b"0"), (variable::MAX_REQS, b"-3")];
        assert_eq!(decode(&odd), Values::default());
        assert_eq!(Values::decode(b"\x7f\x7flies"), Values::default());
    }
}
