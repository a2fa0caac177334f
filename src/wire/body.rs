//! Bodies of the discrete records (sections 4.2, 5.1 and 5.5).

/// Bytes of a BEGIN_REQUEST body.
pub const BEGIN_BODY_LEN: usize = 8;
/// Bytes of an END_REQUEST body.
pub const END_BODY_LEN: usize = 8;
const KEEP_CONN: u8 = 1;

/// What the web server wants an application to be (section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Responder,
    Authorizer,
    Filter,
    Other(u16),
}

impl Role {
    pub const fn from_number(number: u16) -> Self {
        match number {
            1 => Self::Responder,
            2 => Self::Authorizer,
            3 => Self::Filter,
            other => Self::Other(other),
        }
    }

    pub const fn to_number(self) -> u16 {
        match self {
            Self::Responder => 1,
            Self::Authorizer => 2,
            Self::Filter => 3,
            Self::Other(number) => number,
        }
    }
}

/// FCGI_BEGIN_REQUEST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BeginRequest {
    pub role: Role,
    /// Whether the connection stays open behind the response.
    pub keep_conn: bool,
}

impl BeginRequest {
    pub const fn decode(body: &[u8; BEGIN_BODY_LEN]) -> Self {
        Self { role: Role::from_number(u16::from_be_bytes([body[0], body[1]])), keep_conn: body[2] & KEEP_CONN != 0 }
    }

    pub const fn encode(self) -> [u8; BEGIN_BODY_LEN] {
        let role = self.role.to_number().to_be_bytes();
        [role[0], role[1], self.keep_conn as u8 * KEEP_CONN, 0, 0, 0, 0, 0]
    }
}

/// How the application took a request (section 5.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolStatus {
    RequestComplete,
    CantMpxConn,
    Overloaded,
    UnknownRole,
    Other(u8),
}

impl ProtocolStatus {
    pub const fn from_byte(byte: u8) -> Self {
        match byte {
            0 => Self::RequestComplete,
            1 => Self::CantMpxConn,
            2 => Self::Overloaded,
            3 => Self::UnknownRole,
            other => Self::Other(other),
        }
    }

    pub const fn to_byte(self) -> u8 {
        match self {
            Self::RequestComplete => 0,
            Self::CantMpxConn => 1,
            Self::Overloaded => 2,
            Self::UnknownRole => 3,
            Self::Other(byte) => byte,
        }
    }
}

/// FCGI_END_REQUEST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndRequest {
    /// The application's exit status; php-fpm always says 0 (fact 12.3).
    pub app_status: u32,
    pub protocol_status: ProtocolStatus,
}

impl EndRequest {
    pub const fn decode(body: &[u8; END_BODY_LEN]) -> Self {
        Self {
            app_status: u32::from_be_bytes([body[0], body[1], body[2], body[3]]),
            protocol_status: ProtocolStatus::from_byte(body[4]),
        }
    }

    pub const fn encode(self) -> [u8; END_BODY_LEN] {
        let app = self.app_status.to_be_bytes();
        [app[0], app[1], app[2], app[3], self.protocol_status.to_byte(), 0, 0, 0]
    }
}

/// FCGI_UNKNOWN_TYPE: the answer to a management record of a type one does not know (section 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownType {
    pub kind: u8,
}

impl UnknownType {
    pub const fn decode(body: &[u8; 8]) -> Self {
        Self { kind: body[0] }
    }

    pub const fn encode(self) -> [u8; 8] {
        [self.kind, 0, 0, 0, 0, 0, 0, 0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_survive_a_round_trip() {
        for role in 0..5 {
            for keep_conn in [false, true] {
                let begin = BeginRequest { role: Role::from_number(role), keep_conn };
                assert_eq!(BeginRequest::decode(&begin.encode()), begin);
            }
        }
        for status in 0..6 {
            let end = EndRequest { app_status: 0xdead_beef, protocol_status: ProtocolStatus::from_byte(status) };
            assert_eq!(EndRequest::decode(&end.encode()), end);
        }
        assert_eq!(UnknownType::decode(&UnknownType { kind: 77 }.encode()), UnknownType { kind: 77 });
    }

    #[test]
    fn only_the_lowest_flag_bit_counts() {
        assert!(!BeginRequest::decode(&[0, 1, 0xfe, 0, 0, 0, 0, 0]).keep_conn);
        assert!(BeginRequest::decode(&[0, 1, 0xff, 0, 0, 0, 0, 0]).keep_conn);
    }
}
