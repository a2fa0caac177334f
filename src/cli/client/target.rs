//! Where an application listens, as the command line names it.

use std::{fmt, str::FromStr, time::Duration};

use fcgimux::config::{EndpointAddress, Origin};
use tokio::{net::lookup_host, time::timeout};

use super::{Connection, Failure, Kind};

/// A name server that does not answer is not waited for longer.
const LOOKUP_WITHIN: Duration = Duration::from_secs(5);

/// `HOST:PORT`, `IP:PORT`, `[IPV6]:PORT` or `/PATH`, as `--upstream` takes it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    origin: Origin,
    text: String,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self { origin: text.parse()?, text: text.to_owned() })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Target {
    /// All its addresses, of which there is at least one; a name is looked up as every program of this host does it.
    ///
    /// # Errors
    /// The name is not known.
    pub(crate) async fn addresses(&self) -> Result<Vec<EndpointAddress>, Failure> {
        let (name, port) = match &self.origin {
            Origin::Address(address) => return Ok(vec![address.clone()]),
            Origin::Dns { name, port } => (name, *port),
            other => return Err(Failure::new(Kind::Name, format!("{other} cannot be asked for addresses here"))),
        };
        let unknown =
            |why: &dyn fmt::Display| Failure::new(Kind::Name, format!("{self}: {name} has no address: {why}"));
        let found = match timeout(LOOKUP_WITHIN, lookup_host((name.as_str(), port))).await {
            Ok(found) => found.map_err(|error| unknown(&error))?,
            Err(_) => return Err(unknown(&format_args!("DNS did not answer within {LOOKUP_WITHIN:?}"))),
        };
        let mut addresses: Vec<_> = found.map(EndpointAddress::Tcp).collect();
        addresses.dedup();
        if addresses.is_empty() { Err(unknown(&"the answer is empty")) } else { Ok(addresses) }
    }

    /// A connection to the first of its addresses that takes one.
    ///
    /// # Errors
    /// None does within `limit` each; what the last one said.
    pub(crate) async fn connect(&self, limit: Duration) -> Result<Connection, Failure> {
        let mut last = None;
        for address in self.addresses().await? {
            match Connection::open(&address, limit).await {
                Ok(connection) => return Ok(connection),
                Err(failure) => last = Some(failure),
            }
        }
        // There is at least one.
        Err(last.unwrap_or_else(|| Failure::new(Kind::Name, format!("{self} has no address"))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_written_as_an_upstream_is() {
        for text in ["php:9000", "10.0.0.7:9000", "[::1]:9000", "/run/php.sock", "unix:/run/php.sock"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        for text in ["php", "", "10.0.0.7", "php:0", "http://php:80"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
