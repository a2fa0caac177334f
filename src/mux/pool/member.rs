//! An endpoint as discovery knows it.

use crate::config::EndpointAddress;

/// One endpoint that a pool should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub address: EndpointAddress,
    /// Share of the requests relative to the others, 1 to 100.
    pub weight: u32,
    /// In the own zone, or no zones are known.
    pub near: bool,
    /// Nothing new goes there; what runs there ends.
    pub leaving: bool,
}
