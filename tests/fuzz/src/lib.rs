//! What each fuzz target does with its bytes; without libFuzzer, so that an ordinary test can replay the corpus.

mod channel;
mod exchange;
mod fleet;
mod input;
mod pairs;
mod pool;
mod scanner;
mod shares;

pub use channel::channel;
pub use exchange::exchange;
pub use pairs::pairs;
pub use pool::pool;
pub use scanner::scanner;
