//! Chromium, for what a browser does by itself.

use serde_json::json;

use super::{seen::Seen, stage::Side};
use crate::page::browser::Browser;

/// Opens a page, sends its form, and waits until the browser has done with the answer.
pub(crate) fn sends_a_form(side: &Side<'_>) -> Seen {
    let mut browser = Browser::start();
    browser.open(&format!("http://{}/form.html", side.address()));
    browser.wait("document.forms.length == 1 && document.readyState == 'complete'");
    browser.eval("document.forms[0].submit(); 0");
    // A browser that gets nothing shows a page of its own.
    browser.wait("document.forms.length == 0 && document.readyState == 'complete'");
    let lines = browser.eval("document.body.innerText.split('a line of a page').length - 1");
    let own_page = browser.eval("location.protocol == 'chrome-error:'");
    Seen::default().and("shows a part of the page", lines != json!(0)).and("a page of the browser's own", own_page)
}
