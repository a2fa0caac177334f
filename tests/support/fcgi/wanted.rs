//! What a request wants of a [`super::Multiplexer`], as its query says.

use std::time::Duration;

/// `token=a7&n=1000&body=20&delay=5&wrong=close&at=100`: in any order, all but `token` optional.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Comes back in `X-Token`; what the body must be and the response is follows from it.
    pub token: String,
    /// `n`: bytes of the response behind its header block.
    pub response: u64,
    /// `body`: bytes that STDIN must have; not looked at without it.
    pub body: Option<u64>,
    /// `data`: bytes that DATA must have.
    pub data: Option<u64>,
    /// `delay`, in milliseconds: before the first byte of the response.
    pub delay: Duration,
    /// `early`: the response comes, and ends, whether the body has come or not.
    pub early: bool,
    /// `stream`: the response begins before the body has come, and ends behind it.
    pub stream: bool,
    /// `record`: size of its records; random without it.
    pub record: Option<usize>,
    /// `abort`: `at-once`, `late`, `never`, `go`.
    pub on_abort: OnAbort,
    /// `wrong`, done when `at` bytes of STDOUT have gone out.
    pub wrong: Option<Wrong>,
    /// `at`: counts the header block too; 0 is before the first byte.
    pub at: u64,
    /// `times`: how many times the token is done wrong, before it is done right.
    pub times: Option<usize>,
    /// `stderr`: bytes of STDERR before the response.
    pub stderr: usize,
    /// `status`: application status of END_REQUEST.
    pub status: u32,
}

/// How ABORT_REQUEST is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnAbort {
    /// With END_REQUEST and no further record.
    #[default]
    AtOnce,
    /// With END_REQUEST a while later, records coming meanwhile.
    Late,
    /// Not: it goes on as if nothing had been said, and where it hangs it hangs on.
    Never,
    /// With END_REQUEST at once, then with the rest of the response and a second END_REQUEST, as Go's net/http/fcgi.
    Go,
}

/// What no application should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Waits until it is aborted.
    Hang,
    /// Closes the connection.
    Close,
    /// Closes it inside a record.
    CloseInside,
    /// Resets it.
    Reset,
    /// END_REQUEST of 7 bytes.
    EndLength,
    /// A record of version 0.
    Version,
    /// END_REQUEST with CANT_MPX_CONN, OVERLOADED, UNKNOWN_ROLE: not executed.
    Refuse(u8),
    /// Records of ids that nobody has, between its own.
    Strays,
    /// More records, and a second END_REQUEST, behind the first.
    Trailing,
    /// Management records that nobody asked for.
    Management,
    /// A record that only web servers send.
    Foreign,
}

impl Wanted {
    pub fn read(query: &str) -> Self {
        let mut wanted = Self::default();
        for (key, value) in query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "1"))) {
            let number = value.parse::<u64>().unwrap_or(0);
            let size = usize::try_from(number).expect("a size");
            match key {
                "token" => wanted.token = value.to_owned(),
                "n" => wanted.response = number,
                "body" => wanted.body = Some(number),
                "data" => wanted.data = Some(number),
                "delay" => wanted.delay = Duration::from_millis(number),
                "early" => wanted.early = true,
                "stream" => wanted.stream = true,
                "record" => wanted.record = Some(size.clamp(1, 65_535)),
                "abort" => wanted.on_abort = OnAbort::read(value),
                "wrong" => wanted.wrong = Some(Wrong::read(value)),
                "at" => wanted.at = number,
                "times" => wanted.times = Some(size),
                "stderr" => wanted.stderr = size,
                "status" => wanted.status = u32::try_from(number).expect("a status"),
                _ => {}
            }
        }
        wanted
    }
}

impl OnAbort {
    fn read(word: &str) -> Self {
        match word {
            "at-once" => Self::AtOnce,
            "late" => Self::Late,
            "never" => Self::Never,
            "go" => Self::Go,
            other => panic!("abort={other}"),
        }
    }
}

impl Wrong {
    /// Nothing comes behind it as it should.
    pub fn breaks(self) -> bool {
        !matches!(self, Self::Hang | Self::Strays | Self::Trailing | Self::Management)
    }

    fn read(word: &str) -> Self {
        match word {
            "hang" => Self::Hang,
            "close" => Self::Close,
            "close-inside" => Self::CloseInside,
            "reset" => Self::Reset,
            "end-length" => Self::EndLength,
            "version" => Self::Version,
            "no-multiplexing" => Self::Refuse(1),
            "overloaded" => Self::Refuse(2),
            "unknown-role" => Self::Refuse(3),
            "strays" => Self::Strays,
            "trailing" => Self::Trailing,
            "management" => Self::Management,
            "foreign" => Self::Foreign,
            other => panic!("wrong={other}"),
        }
    }
}
