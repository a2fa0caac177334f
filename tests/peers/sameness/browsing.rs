//! Chromium, for what a browser does by itself.

use super::{seen::Seen, stage::Side};
use crate::page::browser::Browser;

/// Posts from a page, and tells how it ended: `fetch` and forms share what sends them again.
const POST: &str = "fetch('/order.php?n=20000', {method: 'POST', body: 'a=1'}).then(
    answer => answer.text().then(text => 'whole', error => 'status ' + answer.status + ', then cut'),
    error => 'no answer')";

/// Opens a page, and posts on the connection that it came on.
pub(crate) fn posts(side: &Side<'_>) -> Seen {
    let mut browser = Browser::start();
    browser.open(&format!("http://{}/page.html", side.address()));
    browser.wait("document.readyState == 'complete' && document.body.innerText == 'a page'");
    Seen::default().and("the browser's answer", browser.eval(POST))
}
