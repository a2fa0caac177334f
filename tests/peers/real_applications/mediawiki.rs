//! MediaWiki.
