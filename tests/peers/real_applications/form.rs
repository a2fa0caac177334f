//! A form of a page, filled in and sent as a browser does.

use super::markup::{Tag, plain, tags};

/// Between the parts of a form with files.
const BOUNDARY: &str = "----a-boundary-that-no-file-holds";

#[derive(Clone, Debug, Default)]
pub(super) struct Form {
    /// Where it goes, as the page says it.
    pub(super) action: String,
    /// In the address instead of the body.
    pub(super) in_address: bool,
    multipart: bool,
    fields: Vec<(String, String)>,
    files: Vec<File>,
}

#[derive(Clone, Debug)]
struct File {
    field: String,
    name: String,
    kind: String,
    bytes: Vec<u8>,
}

impl Form {
    /// The first form of a page that has a field of this name.
    #[track_caller]
    pub(super) fn with(field: &str, page: &str) -> Self {
        let forms = forms(page);
        let names: Vec<_> = forms.iter().flat_map(|(_, names)| names).cloned().collect();
        let found = forms.into_iter().find(|(_, names)| names.iter().any(|name| name == field));
        found.unwrap_or_else(|| panic!("no form with {field} but {names:?} in {page}")).0
    }

    /// A form that a script would make.
    pub(super) fn to(action: &str) -> Self {
        Self { action: action.to_owned(), ..Self::default() }
    }

    /// Fills in a field, or presses a button.
    pub(super) fn set(mut self, name: &str, value: &str) -> Self {
        match self.fields.iter_mut().find(|(field, _)| field == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.fields.push((name.to_owned(), value.to_owned())),
        }
        self
    }

    /// Clears a box.
    pub(super) fn clear(mut self, name: &str) -> Self {
        self.fields.retain(|(field, _)| field != name);
        self
    }

    pub(super) fn file(mut self, field: &str, name: &str, kind: &str, bytes: &[u8]) -> Self {
        self.multipart = true;
        let [field, name, kind] = [field, name, kind].map(str::to_owned);
        self.files.push(File { field, name, kind, bytes: bytes.to_vec() });
        self
    }

    #[track_caller]
    pub(super) fn value(&self, name: &str) -> &str {
        let found = self.fields.iter().find(|(field, _)| field == name);
        found.map_or_else(|| panic!("no {name} in {:?}", self.fields), |(_, value)| value)
    }

    /// `name=value&...`
    pub(super) fn encoded(&self) -> String {
        let pairs = self.fields.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value)));
        pairs.collect::<Vec<_>>().join("&")
    }

    /// The type of the body, and the body.
    pub(super) fn body(&self) -> (String, Vec<u8>) {
        if !self.multipart {
            return ("application/x-www-form-urlencoded".to_owned(), self.encoded().into_bytes());
        }
        let mut body = Vec::new();
        for (name, value) in &self.fields {
            part(&mut body, &format!("name=\"{name}\"\r\n"), value.as_bytes());
        }
        for File { field, name, kind, bytes } in &self.files {
            part(&mut body, &format!("name=\"{field}\"; filename=\"{name}\"\r\nContent-Type: {kind}\r\n"), bytes);
        }
        body.extend(format!("--{BOUNDARY}--\r\n").bytes());
        (format!("multipart/form-data; boundary={BOUNDARY}"), body)
    }

    fn begin(tag: &Tag<'_>) -> Self {
        let is = |name, value: &str| tag.attribute(name).is_some_and(|is| is.eq_ignore_ascii_case(value));
        Self {
            action: tag.attribute("action").unwrap_or_default(),
            in_address: !is("method", "post"),
            multipart: is("enctype", "multipart/form-data"),
            ..Self::default()
        }
    }
}

/// Each form with the names of all its fields, also of those that are sent only when somebody fills them in.
fn forms(page: &str) -> Vec<(Form, Vec<String>)> {
    let tags = tags(page);
    let mut forms: Vec<(Form, Vec<String>)> = Vec::new();
    let (mut open, mut choice) = (false, String::new());
    for (at, tag) in tags.iter().enumerate() {
        match tag.name.as_str() {
            "form" => {
                open = true;
                forms.push((Form::begin(tag), Vec::new()));
            }
            "/form" => open = false,
            _ if !open => {}
            "select" => choice = tag.attribute("name").unwrap_or_default(),
            "option" if tag.has("selected") => {
                let (form, names) = forms.last_mut().expect("an open form");
                names.push(choice.clone());
                form.fields.push((choice.clone(), tag.attribute("value").unwrap_or_default()));
            }
            "input" | "textarea" | "button" => {
                let Some(name) = tag.attribute("name") else { continue };
                let end = tags.get(at + 1).map_or(page.len(), |next| next.at.start);
                let (form, names) = forms.last_mut().expect("an open form");
                names.push(name.clone());
                form.fields.extend(value(tag, &page[tag.at.end..end]).map(|value| (name, value)));
            }
            _ => {}
        }
    }
    forms
}

/// What a field sends when nobody touches it.
fn value(tag: &Tag<'_>, text_behind: &str) -> Option<String> {
    if tag.name == "textarea" {
        return Some(plain(text_behind.strip_prefix('\n').unwrap_or(text_behind)));
    }
    let kind = tag.attribute("type").unwrap_or_default();
    let value = tag.attribute("value");
    match kind.as_str() {
        "checkbox" | "radio" => tag.has("checked").then(|| value.unwrap_or_else(|| "on".to_owned())),
        "submit" | "button" | "image" | "file" | "reset" => None,
        _ if tag.name == "button" => None,
        _ => Some(value.unwrap_or_default()),
    }
}

fn part(body: &mut Vec<u8>, about: &str, bytes: &[u8]) {
    body.extend(format!("--{BOUNDARY}\r\nContent-Disposition: form-data; {about}\r\n").bytes());
    body.extend_from_slice(bytes);
    body.extend(b"\r\n");
}

/// As it may stand in an address.
pub(super) fn escape(text: &str) -> String {
    let escaped = text.bytes().map(|byte| match byte {
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    });
    escaped.collect()
}
