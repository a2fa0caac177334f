//! The pool page: one file, which asks nobody but the server it came from.

/// It is sent as it is.
pub(in crate::admin) const PAGE: &str = include_str!("page.html");

/// Nothing runs and nothing is styled but what stands in the page, known by its digest (CSP level 3, section 8.4); nothing
/// is asked of anybody else, and nobody may put it into a frame.
pub(in crate::admin) const CONTENT_SECURITY_POLICY: &str = concat!(
    "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; ",
    "script-src 'sha256-NBEjmoSPv/wL+EwPzrBpACd2+s2JgnHkeHuGBfE9BD0='; ",
    "style-src 'sha256-qB68K1O1qnS3wAISSsP7yxNd3NMmar4v+KOf0V1d7WE='",
);

#[cfg(test)]
mod tests {
    use super::*;
    use base64::{Engine, prelude::BASE64_STANDARD};
    use sha2::{Digest, Sha256};

    #[test]
    fn the_policy_knows_the_script_and_the_style_of_the_page() {
        for element in ["script", "style"] {
            let (begin, end) = (format!("<{element}>"), format!("</{element}>"));
            assert_eq!(PAGE.matches(&begin).count(), 1);
            let inside = PAGE.split_once(&begin).unwrap().1.split_once(&end).unwrap().0;
            let source = format!("{element}-src 'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(inside)));
            assert!(CONTENT_SECURITY_POLICY.contains(&source), "the policy must say {source}");
        }
    }

    #[test]
    fn the_page_names_no_other_host_and_puts_no_text_in_as_markup() {
        let foreign = PAGE.replace("http://www.w3.org/2000/svg", "");
        for never in ["http://", "https://", "src=", "innerHTML", "outerHTML", "insertAdjacentHTML", "eval(", " style="]
        {
            assert!(!foreign.contains(never), "{never}");
        }
    }
}
