//! What a web server is told about the connection itself, and not about a request.

use crate::wire::{Kind, MANAGEMENT_ID, MAX_CONTENT, Pairs, UnknownType, put_pair, put_record, variable};

/// Content of a GET_VALUES that we look at; the three known names take 45 bytes.
pub(super) const MAX_GET_VALUES: u16 = 1024;

/// What a web server may have at once; also what GET_VALUES is told.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub connections: u32,
    /// Requests on one connection. MAX_REQS says the same, though the specification has it count over all connections:
    /// HAProxy, the one web server that asks, takes it for the limit of one.
    pub requests: u32,
}

/// The answer to a GET_VALUES. `asked`: its content.
pub(super) fn values(asked: &[u8], limits: Limits) -> Vec<u8> {
    let mut values = vec![];
    let Limits { connections, requests } = limits;
    for (name, _) in Pairs::new(asked).filter_map(Result::ok) {
        match name {
            variable::MAX_CONNS => put_pair(&mut values, name, connections.to_string().as_bytes()),
            variable::MAX_REQS => put_pair(&mut values, name, requests.to_string().as_bytes()),
            variable::MPXS_CONNS => put_pair(&mut values, name, if requests > 1 { b"1" } else { b"0" }),
            _ => {} // left out, as the specification says
        }
    }
    values.truncate(MAX_CONTENT);
    let mut out = vec![];
    put_record(&mut out, Kind::GetValuesResult, MANAGEMENT_ID, &values);
    out
}

/// The answer to any other management record.
pub(super) fn unknown_type(kind: Kind) -> Vec<u8> {
    let mut out = vec![];
    put_record(&mut out, Kind::UnknownType, MANAGEMENT_ID, &UnknownType { kind: kind.to_byte() }.encode());
    out
}
