//! One request as a web server would send it.

use super::record::{begin, params, stdin, stdin_end};

#[derive(Clone, Debug)]
pub struct Call {
    pub id: u16,
    pub keep: bool,
    pub params: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Whether the empty STDIN record is sent with it.
    pub ended: bool,
}

impl Call {
    pub fn get(script: &str) -> Self {
        Self::new("GET", script)
    }

    pub fn new(method: &str, script: &str) -> Self {
        let call = Self { id: 1, keep: true, params: Vec::new(), body: Vec::new(), ended: true };
        call.param("SCRIPT_FILENAME", script).param("SCRIPT_NAME", script).param("REQUEST_METHOD", method)
    }

    pub fn post(script: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::new("POST", script).body("application/octet-stream", body)
    }

    pub fn query(self, query: &str) -> Self {
        self.param("QUERY_STRING", query)
    }

    /// Sets a param, in place of an earlier one of its name.
    pub fn param(mut self, name: &str, value: &str) -> Self {
        self.params.retain(|(earlier, _)| earlier != name);
        self.params.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        let length = self.body.len().to_string();
        self.param("CONTENT_TYPE", content_type).param("CONTENT_LENGTH", &length)
    }

    pub fn id(mut self, id: u16) -> Self {
        self.id = id;
        self
    }

    /// Lets the application close the connection after this request.
    pub fn last(mut self) -> Self {
        self.keep = false;
        self
    }

    /// Leaves the empty STDIN record out.
    pub fn unended(mut self) -> Self {
        self.ended = false;
        self
    }

    /// BEGIN and PARAMS.
    pub fn head(&self) -> Vec<u8> {
        let mut bytes = begin(self.id, self.keep);
        let pairs = self.params.iter().map(|(name, value)| (name, value));
        bytes.extend(params(self.id, pairs));
        bytes
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head();
        bytes.extend(stdin(self.id, &self.body));
        if self.ended {
            bytes.extend(stdin_end(self.id));
        }
        bytes
    }
}
