//! The closed sets of words that metrics and logs use for what happened.

/// Declares an enum whose variants have one lower-case word each, and an order for tables of handles.
macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// Every variant, in the order of `as usize`.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The word in metrics and logs.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }
    };
}

labels! {
    /// How an exchange ended, seen from the web server. Label `outcome`.
    Outcome {
        /// The application answered, END_REQUEST included.
        Ok = "ok",
        /// Answered in the application's stead before it had the request: see [`Refusal`].
        Refused = "refused",
        /// The application broke off; before the first byte the web server got a 502.
        Broken = "broken",
        /// A timeout of the application; before the first byte the web server got a 504.
        Timeout = "timeout",
        /// The web server hung up or aborted first.
        Gone = "gone",
    }
}

labels! {
    /// Why an exchange was answered in the application's stead. Label `reason` of `refused_total`.
    Refusal {
        QueueFull = "queue_full",
        QueueTimeout = "queue_timeout",
        NoEndpoint = "no_endpoint",
        Connections = "connections",
        RequestsInFlight = "requests_in_flight",
        ParamsTooLarge = "params_too_large",
        TooManyParams = "too_many_params",
        BodyTooLarge = "body_too_large",
        ParamDenied = "param_denied",
        Malformed = "malformed",
        LengthMismatch = "length_mismatch",
        /// The body could not be stored on disk.
        Storage = "storage",
        ReadTimeout = "read_timeout",
    }
}

labels! {
    /// Why an exchange was sent again. Label `reason` of `retries_total`.
    RetryReason {
        /// It was not executed: the GET_VALUES in front of it was not answered, it had not been sent, or the application
        /// refused it (OVERLOADED, CANT_MPX_CONN).
        Unproven = "unproven",
        /// An idempotent request whose connection ended without a byte.
        Idempotent = "idempotent",
        /// An idempotent request that was sent to a worker which turned out to be at work behind the response before.
        Busy = "busy",
    }
}

labels! {
    /// Why an upstream connection was closed. Label `reason` of `upstream_connections_closed_total`.
    Closed {
        /// It never connected.
        Connect = "connect",
        /// It connected but did not prove itself.
        Prove = "prove",
        /// Idle for longer than allowed.
        Idle = "idle",
        /// Gave its worker up to others after long uninterrupted use.
        Yield = "yield",
        MaxAge = "max_age",
        MaxRequests = "max_requests",
        /// Its last request was sent without keep-conn: a body that PHP may leave unread.
        Body = "body",
        /// Each request to an endpoint that cannot keep connections (PHP before 8.2.13).
        NotKept = "not_kept",
        /// The application closed it between requests (pm.max_requests, reload, stop).
        Application = "application",
        /// It broke during an exchange.
        Broken = "broken",
        /// A record that must not come.
        Protocol = "protocol",
        Timeout = "timeout",
        /// The application would not take another exchange on it (OVERLOADED).
        Overloaded = "overloaded",
        /// Its web server hung up during the exchange.
        Gone = "gone",
        /// Its worker was at work behind a response when the next request had been sent to it.
        Busy = "busy",
        Drain = "drain",
        /// Its endpoint leaves, or is drained by an operator.
        Leaving = "leaving",
        /// An operator asked for new connections, or for none at all.
        Reconnect = "reconnect",
        /// Given back early, since others wait for a worker.
        Pressure = "pressure",
        /// The other side's kernel acknowledges nothing any more.
        Silent = "silent",
    }
}

labels! {
    /// The states of an upstream connection. Label `state` of `upstream_connections`.
    ConnectionState {
        Connecting = "connecting",
        Proving = "proving",
        Idle = "idle",
        Leased = "leased",
        Settling = "settling",
    }
}

labels! {
    /// Whether an endpoint is used. Shown by the admin server; `endpoint_up` is 0 for [`EndpointState::Ejected`] alone.
    EndpointState {
        Up = "up",
        /// Failing, but not for long; used where no other has room.
        Suspect = "suspect",
        /// Left alone, and tried again now and then.
        Ejected = "ejected",
        /// It leaves: what runs there ends, nothing new comes.
        Draining = "draining",
    }
}

labels! {
    /// What became of PHP_VALUE and PHP_ADMIN_VALUE. Label `action` of `php_settings_total`.
    Sticky {
        /// They went on, as the web server's administrator wants it.
        Passed = "passed",
        /// They were taken out (`params.on_denied: strip`).
        Stripped = "stripped",
    }
}

labels! {
    /// Label `direction` of `bytes_total`.
    Direction {
        /// Web server to application.
        Request = "request",
        /// Application to web server.
        Response = "response",
    }
}
