//! What runs around a command inside a container: two scripts for the container's own `sh`, made of built-in commands only.
//!
//! The *carrier* tells its process number, waits to be let go, runs the command, and writes a mark with the status after the
//! last byte of its output; then it stands still until the *watcher* lets it end. So everything has arrived when the mark has:
//! the engine drops what a slow reader has not taken two seconds after a command's end. It waits for children that still hold
//! the output; where there is no `sleep` to wait with, the mark has a `+` and the output counts as cut.
//! The watcher is a command of its own. It holds the carrier's input open, so that a break is not taken for the end of the
//! data, and ends the carrier's whole session when its own input ends without a word: when bkp stops, or dies. The command
//! comes first and the carrier last, because whoever loses his parent is reaped by the container's first process: PostgreSQL
//! there takes a stranger that was killed for a server process of its own, and ends all sessions of all databases.

/// What the carrier is asked to do with the command's input and output.
#[derive(Clone, Copy, PartialEq)]
pub enum Mode {
    /// Pass the output on; there is no input.
    Read,
    /// Pass both on.
    Talk,
    /// Pass the input on, drop the output, and tell with a second mark whether input was left over. A rest of nothing but NUL bytes is not seen.
    Feed,
}

impl Mode {
    pub fn word(self) -> &'static str {
        match self {
            Mode::Read => "read",
            Mode::Talk => "talk",
            Mode::Feed => "feed",
        }
    }
}

pub const CARRIER: &str = r#"command -v "$1" >/dev/null 2>&1 && found=found || found=missing
echo "$$ $found" >&2
read -r mark mode || exit 125
case $mode in
  read) "$@" </dev/null ;;
  feed) "$@" >/dev/null ;;
  *) "$@" ;;
esac
status=$?
is_held() {
  for other in /proc/[0-9]*; do
    [ "$other" = "/proc/$$" ] || ! [ "$other/fd/1" -ef "/proc/$$/fd/1" ] || return 0
  done
  return 1
}
held=
while is_held; do
  sleep 0.1 >/dev/null 2>&1 || sleep 1 >/dev/null 2>&1 || { held=+; break; }
done
echo "$mark $status$held"
if [ "$mode" = feed ]; then
  rest=
  IFS= read -r rest
  if [ -z "$rest" ]; then echo "$mark 0"; else echo "$mark 1"; fi
fi
kill -s STOP "$$"
exit "$status""#;

pub const WATCHER: &str = r#"read -r number || exit
if ( : >"/proc/$number/fd/0" ) 2>/dev/null; then exec 3>"/proc/$number/fd/0"; fi
echo ready
while read -r word; do
  case $word in
    release) exec 3>&- ;;
    end)
      tries=0
      while [ "$tries" -lt 5000000 ] && kill -s CONT "$number" 2>/dev/null; do tries=$((tries + 1)); done
      break
      ;;
  esac
done
members() {
  found=
  for process in /proc/[0-9]*; do
    parent= group=
    while read -r key value rest; do
      case $key in PPid:) parent=$value ;; NSpgid:) group=$value; break ;; esac
    done <"$process/status"
    process=${process#/proc/}
    [ "$process" = "$number" ] || [ "$group" != "$number" ] || found=1
    [ "$parent" != "$number" ] || [ -z "$1" ] || kill -s "$1" "$process"
  done
} 2>/dev/null
for word in TERM KILL; do
  kill -s 0 "$number" 2>/dev/null || break
  members "$word"
  tries=0
  while members && [ -n "$found" ] && [ "$tries" -lt 10 ]; do
    tries=$((tries + 1))
    sleep 0.1 2>/dev/null || sleep 1
  done
done
kill -s KILL -- "-$number" 2>/dev/null
exit 0"#;

/// Random digits, a status, and a newline.
pub struct Mark {
    digits: String,
}

/// The status that a mark tells, and whether somebody was left behind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Told {
    pub status: u8,
    pub held: bool,
}

impl Mark {
    /// Digits, space, `255+`, newline.
    const LONGEST: usize = 32 + 1 + 4 + 1;

    pub fn new() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Mark { digits: hex::encode(bytes) })
    }

    pub fn digits(&self) -> &str {
        &self.digits
    }

    /// What the mark at the end of `bytes` tells, and where it begins.
    pub fn at_end(&self, bytes: &[u8]) -> Option<(usize, Told)> {
        let from = bytes.len().saturating_sub(Self::LONGEST);
        let begin = (from..bytes.len()).find(|at| bytes[*at..].starts_with(self.digits.as_bytes()))?;
        let told = self.read(&bytes[begin..])?;
        Some((begin, told))
    }

    fn read(&self, bytes: &[u8]) -> Option<Told> {
        let text =
            std::str::from_utf8(bytes).ok()?.strip_prefix(&self.digits)?.strip_prefix(' ')?.strip_suffix('\n')?;
        let (number, held) = match text.strip_suffix('+') {
            Some(number) => (number, true),
            None => (text, false),
        };
        Some(Told { status: number.parse().ok()?, held })
    }

    /// Where the beginning of a mark may stand at the end of `bytes`; their length when there is none.
    pub fn perhaps_at(&self, bytes: &[u8]) -> usize {
        let from = bytes.len().saturating_sub(Self::LONGEST - 1);
        let begins = |tail: &[u8]| {
            let digits = self.digits.as_bytes();
            match tail.get(digits.len()..) {
                None => digits.starts_with(tail),
                Some(rest) => tail.starts_with(digits) && !rest.contains(&b'\n'),
            }
        };
        (from..bytes.len()).find(|at| begins(&bytes[*at..])).unwrap_or(bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_however_it_is_cut() {
        let mark = Mark::new().unwrap();
        for (text, told) in [("0", Told { status: 0, held: false }), ("255+", Told { status: 255, held: true })] {
            let whole = format!("rows without end{} {text}\n", mark.digits);
            assert_eq!(mark.at_end(whole.as_bytes()), Some((16, told)));
            for cut in 17..whole.len() {
                assert_eq!(mark.at_end(&whole.as_bytes()[..cut]), None);
                assert_eq!(mark.perhaps_at(&whole.as_bytes()[..cut]), 16, "{cut}");
            }
        }
    }

    #[test]
    fn data_that_looks_like_a_mark_is_data() {
        let mark = Mark { digits: "0123456789abcdef0123456789abcdef".into() };
        assert_eq!(mark.perhaps_at(b"rows\n"), 5);
        assert_eq!(mark.perhaps_at(b""), 0);
        let more = format!("{} 0\nmore\n", mark.digits);
        assert_eq!((mark.at_end(more.as_bytes()), mark.perhaps_at(more.as_bytes())), (None, more.len()));
        let long = format!("{} 000000000x", mark.digits);
        assert_eq!(mark.perhaps_at(long.as_bytes()), long.len());
    }
}
