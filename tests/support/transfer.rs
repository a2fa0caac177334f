//! Bodies too large to hold: made on the fly, and hashed instead of kept.

use std::{net::SocketAddr, time::Duration};

use sha2::{Digest, Sha256};
use tokio::{io::AsyncReadExt, time::timeout};

use super::http::{Answer, Framing, HttpError, block_on, connect, framing, read_answer, read_chunk, read_head, send};

/// What a body was, without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sum {
    pub length: u64,
    pub sha256: String,
}

/// Sends `length` bytes to `path` and gives what was sent and what was answered.
pub fn upload(
    address: SocketAddr,
    method: &str,
    path: &str,
    length: u64,
    limit: Duration,
) -> Result<(Sum, Answer), HttpError> {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\
         Content-Type: application/octet-stream\r\nContent-Length: {length}\r\n\r\n"
    );
    let exchange = async {
        let mut stream = connect(address).await?;
        send(&mut stream, head.as_bytes()).await?;
        let mut hash = Hash::default();
        while hash.length < length {
            let left = usize::try_from(length - hash.length).unwrap_or(usize::MAX);
            let block = block(hash.length);
            let piece = &block[..block.len().min(left)];
            hash.add(piece);
            send(&mut stream, piece).await?;
        }
        Ok((hash.sum(), read_answer(&mut stream).await?))
    };
    block_on(async { timeout(limit, exchange).await.unwrap_or(Err(HttpError::TimedOut)) })
}

/// Reads an answer in steps of at most `step` bytes with `pause` between them, and gives its status and sum.
pub fn download(
    address: SocketAddr,
    path: &str,
    step: usize,
    pause: Duration,
    limit: Duration,
) -> Result<(u16, Sum), HttpError> {
    let head = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    let exchange = async {
        let mut stream = connect(address).await?;
        send(&mut stream, head.as_bytes()).await?;
        let answer = read_head(&mut stream).await?;
        let mut hash = Hash::default();
        let truncated = |error: std::io::Error| HttpError::Truncated(error.to_string());
        match framing(&answer)? {
            Framing::Chunked => {
                let mut chunk = Vec::new();
                while read_chunk(&mut stream, &mut chunk).await? {
                    hash.add(&chunk);
                    chunk.clear();
                    tokio::time::sleep(pause).await;
                }
            }
            framing => {
                let whole = if let Framing::Length(length) = framing { Some(length as u64) } else { None };
                let mut piece = vec![0; step];
                while whole.is_none_or(|whole| hash.length < whole) {
                    let read = stream.read(&mut piece).await.map_err(truncated)?;
                    if read == 0 && whole.is_some() {
                        return Err(HttpError::Truncated(format!("{} bytes of {whole:?}", hash.length)));
                    }
                    if read == 0 {
                        break;
                    }
                    hash.add(&piece[..read]);
                    tokio::time::sleep(pause).await;
                }
            }
        }
        Ok((answer.status, hash.sum()))
    };
    block_on(async { timeout(limit, exchange).await.unwrap_or(Err(HttpError::TimedOut)) })
}

/// What big.php answers for so many bytes.
pub fn sum_of_big(bytes: u64) -> Sum {
    let mut hash = Hash::default();
    while hash.length < bytes {
        let left = usize::try_from(bytes - hash.length).unwrap_or(usize::MAX);
        let block = block(hash.length);
        hash.add(&block[..block.len().min(left)]);
    }
    hash.sum()
}

/// The 64 KiB that start at `offset`; those of big.php.
fn block(offset: u64) -> Vec<u8> {
    format!("{:015}\n", offset / 65_536).repeat(4_096).into_bytes()
}

#[derive(Default)]
struct Hash {
    length: u64,
    sha256: Sha256,
}

impl Hash {
    fn add(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        self.sha256.update(bytes);
    }

    fn sum(self) -> Sum {
        let sha256 = self.sha256.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Sum { length: self.length, sha256 }
    }
}
