//! The tool's side of the socket.

use std::{
    io::{self, BufRead, BufReader, Read},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use super::line::{Line, Sample};

/// A node that says nothing for this long has stopped, or is stopped by a debugger.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// More is no line of a node: 64 workers with a few hundred counters each take about 1 MiB.
const LINE_BYTES_MAX: u64 = 8 << 20;

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// No socket, or one that was left behind by a process that was killed.
    #[error(
        "no node runs here: nobody listens at {0}. Start one with `sluice up`, or name the data folder of the one that runs with --data"
    )]
    Absent(PathBuf),
    /// The socket is another user's.
    #[error("{0} may be opened only by root and the user that runs the node: try sudo")]
    Denied(PathBuf),
    /// Anything else that keeps the socket from being opened.
    #[error("{0}: {1}")]
    Other(PathBuf, io::Error),
    /// The node said why it does not serve us.
    #[error("the node refuses: {0}")]
    Refused(String),
    /// The node ended.
    #[error("the node has stopped")]
    Stopped,
    /// The node's process hangs.
    #[error("the node has said nothing for {} s", SILENCE_MAX.as_secs())]
    Silent,
    /// Not a node, or one of another version.
    #[error("what {0} says cannot be read: {1}")]
    Strange(PathBuf, String),
}

/// What a node says, one sample a second.
pub trait Samples {
    /// Waits for the next one.
    fn next(&mut self) -> Result<Sample, AttachError>;
}

/// An open socket.
pub struct Attached {
    path: PathBuf,
    lines: BufReader<UnixStream>,
}

/// Opens the socket of a running node.
pub fn attach(path: &Path) -> Result<Attached, AttachError> {
    let other = |error| AttachError::Other(path.to_owned(), error);
    let stream = UnixStream::connect(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => AttachError::Absent(path.to_owned()),
        io::ErrorKind::PermissionDenied => AttachError::Denied(path.to_owned()),
        _ => other(error),
    })?;
    stream.set_read_timeout(Some(SILENCE_MAX)).map_err(other)?;
    Ok(Attached { path: path.to_owned(), lines: BufReader::new(stream) })
}

impl Samples for Attached {
    fn next(&mut self) -> Result<Sample, AttachError> {
        let mut line = String::new();
        let strange = |why: String| AttachError::Strange(self.path.clone(), why);
        match self.lines.by_ref().take(LINE_BYTES_MAX).read_line(&mut line) {
            Ok(_) if line.ends_with('\n') => {}
            Ok(bytes) if bytes as u64 == LINE_BYTES_MAX => return Err(strange("a line without an end".into())),
            Ok(_) => return Err(AttachError::Stopped),
            Err(error) => {
                return Err(match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => AttachError::Silent,
                    io::ErrorKind::ConnectionReset => AttachError::Stopped,
                    io::ErrorKind::InvalidData => strange("not text".into()),
                    _ => AttachError::Other(self.path.clone(), error),
                });
            }
        }
        match serde_json::from_str(&line) {
            Ok(Line::Sample(sample)) => Ok(sample),
            Ok(Line::Refused(reason)) => Err(AttachError::Refused(reason)),
            Err(error) => Err(strange(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// A node that says `says` and ends.
    fn after(says: &[u8]) -> String {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(says).unwrap();
        drop(theirs);
        let mut attached = Attached { path: "stats.sock".into(), lines: BufReader::new(ours) };
        attached.next().unwrap_err().to_string()
    }

    #[test]
    fn whatever_a_socket_says_is_an_error_in_words() {
        assert_eq!(after(b""), "the node has stopped");
        assert_eq!(after(b"{\"sample\":{\"node\":"), "the node has stopped");
        assert_eq!(after(b"{\"refused\":\"full\"}\n"), "the node refuses: full");
        for strange in [&b"HTTP/1.1 400\n"[..], b"{}\n", b"\n", b"\xff\n", b"{\"sample\":{}}\n"] {
            let error = after(strange);
            assert!(error.starts_with("what stats.sock says cannot be read"), "{strange:?}: {error}");
        }
    }
}
